"""Celery as its documentation has it for Django, with the one line."""

import os

from celery import Celery

from jobtastic_ext import JobtasticStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reports.settings")

app = Celery("reports")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["reports"])
app.steps["worker"].add(JobtasticStep)
