"""The app of the admin's page."""

from __future__ import annotations

from django.apps import AppConfig


class JobtasticConfig(AppConfig):  # type: ignore[misc]
    """What `INSTALLED_APPS` names."""

    name = "jobtastic_ext.contrib.django"
    label = "jobtastic"
    verbose_name = "Jobtastic"
