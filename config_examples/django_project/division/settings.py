import os
import secrets

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_urlsafe()
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "division.urls"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "jobtastic_ext",  # its static files
    "division",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/static/"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"  # needs no database

JOBTASTIC_STATUS = {
    "authorize": "division.whose.may_see",
    # What else goes wrong is for the log: a page shows the task's id, to be quoted.
    "messages": "public",
    "public_exceptions": [ZeroDivisionError],
}

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
CELERY_RESULT_BACKEND = os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0")
