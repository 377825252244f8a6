"""A Django project with an admin, in a process of its own: ``python -m tests.web.admin_project``.

Its folder is $ADMIN_FOLDER; it prints its port.
"""

from __future__ import annotations

import os
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import path

from jobtastic_ext import JobtasticStep

FOLDER = os.environ.get("ADMIN_FOLDER", "")


def same(x: object) -> object:
    return x


def make_app(folder: str) -> Celery:
    """The Celery app, as the project and the tests see it."""
    app = Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(
        jobtastic_policy={"tasks": {"reports.*": {"cache_duration": "1h"}}},
        jobtastic_store=f"sqlite:///{folder}/claims.sqlite3",
    )
    app.steps["worker"].add(JobtasticStep)
    app.task(same, name="reports.divide", shared=False)
    app.finalize()
    return app


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


urlpatterns: list[object] = []


def main() -> None:
    contrib = ("admin", "auth", "contenttypes", "sessions", "messages")
    settings.configure(
        SECRET_KEY="only in tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[
            *(f"django.contrib.{one}" for one in contrib),
            "jobtastic_ext.contrib.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/db"}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        STATIC_URL="/static/",
        USE_TZ=True,
        JOBTASTIC_STATUS={"app": make_app(FOLDER)},
    )
    django.setup()
    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)
    from django.contrib import admin
    from django.contrib.auth.models import Permission, User

    held = {"ada": ("view_claim", "forget_claim"), "bob": ("view_claim",), "cid": ()}
    for name, permissions in held.items():
        user = User.objects.create_user(name, password=name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        assert user.user_permissions.count() == len(permissions)
    urlpatterns.append(path("admin/", admin.site.urls))
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    # Django imports the URLs by the module's name, which has to be this very module.
    import sys

    sys.modules["tests.web.admin_project"] = sys.modules["__main__"]
    main()
