"""The status view for Django's URLconf: ``path("task/", include("jobtastic_ext.web.django"))``.

It serves ``<id>/status/`` and ``status/?id=…&id=…``, as `jobtastic:status` and `jobtastic:many`.
Options stand in the setting `JOBTASTIC_STATUS`, a dict: ``app`` (a Celery app, by default the one
that the project has), ``authorize``, ``signed``, ``user``, ``tracebacks``, ``max_result``,
``timeout``, ``messages``, ``public_exceptions``, ``legacy``.  What is called may be named by its
dotted path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, _state
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.module_loading import import_string

from ..errors import ConfigurationError
from ..policy.problems import did_you_mean
from ..runtime import has_step
from .access import make_access
from .stored import Limits
from .tokens import Anybody
from .views import StatusView

__all__ = ("app_name", "urlpatterns")

SETTING = "JOBTASTIC_STATUS"

OPTIONS = (
    "app",
    "authorize",
    "legacy",
    "max_result",
    "messages",
    "public_exceptions",
    "signed",
    "timeout",
    "tracebacks",
    "user",
)

app_name = "jobtastic"


def view_of(options: Mapping[str, Any]) -> StatusView:
    """Make the view that the setting describes.  Raises `ImproperlyConfigured`."""
    for name in options:
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise ImproperlyConfigured(
                f"{SETTING} has no option {name!r}{did_you_mean(name, OPTIONS)}; there are {known}"
            )
    found = {
        name: import_string(value)
        if name in ("app", "authorize", "user") and isinstance(value, str)
        else value
        for name, value in options.items()
    }
    asked = {name: found[name] for name in ("authorize", "signed") if name in found}
    limits = {name: found[name] for name in Limits.__struct_fields__ if name in found}
    try:
        access = make_access(**asked, user=found.get("user", who_asks))
        shown = Limits(**limits)
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"{SETTING}: {error}") from error
    app = found.get("app")
    find = (lambda: app) if app is not None else find_app
    return StatusView(find, shown, access, legacy=bool(found.get("legacy")))


def who_asks(request: HttpRequest) -> Any:
    """The primary key of the user who is logged in; `ANYBODY` in a project that has no users."""
    if not hasattr(request, "user"):
        return Anybody.ANYBODY
    user = request.user
    return user.pk if user is not None and user.is_authenticated else None


def find_app() -> Celery:
    """Return the project's Celery app.  Raises `ImproperlyConfigured` if that is not clear."""
    # Not `current_app`: in a thread that did not import the app it may be one that knows nothing.
    for app in (_state._tls.current_app, _state.default_app):
        if app is not None and has_step(app):
            return app
    enabled = [app for app in _state._get_active_apps() if has_step(app)]
    if len(enabled) == 1:
        return enabled[0]
    found = _state._tls.current_app or _state.default_app
    if found is not None and not enabled:
        return found
    raise ImproperlyConfigured(
        f"{len(enabled) or 'no'} Celery apps could be meant; name the one whose tasks are asked "
        f'for: {SETTING} = {{"app": "project.celery.app"}}'
    )


class Views:
    """The views, made anew when the setting changes (as it does in tests)."""

    def __init__(self) -> None:
        self._options: Mapping[str, Any] | None = None
        self._view: StatusView | None = None

    def view(self) -> StatusView:
        options = getattr(settings, SETTING, None) or {}
        if self._view is None or options != self._options:
            self._options, self._view = options, view_of(options)
        return self._view

    def answer(
        self, request: HttpRequest, ids: Sequence[str], *, many: bool = False
    ) -> HttpResponse:
        given = self.view().answer(
            request,
            ids,
            request.GET.getlist("token"),
            method=request.method or "GET",
            etag=request.headers.get("If-None-Match"),
            many=many,
        )
        return HttpResponse(given.body, status=given.status, headers=given.headers)

    def status(self, request: HttpRequest, task_id: str) -> HttpResponse:
        """Tell of one task."""
        return self.answer(request, [task_id])

    def many(self, request: HttpRequest) -> HttpResponse:
        """Tell of up to 100 tasks."""
        return self.answer(request, request.GET.getlist("id"), many=True)

    def events(self, request: HttpRequest, task_id: str) -> HttpResponse:
        """Say that there are none here: a client that hears this asks for the status instead."""
        return HttpResponse(status=204)


views = Views()
views.view()  # a mistake in the setting shows when the URLs are loaded

urlpatterns = [
    path("status/", views.many, name="many"),
    path("<str:task_id>/status/", views.status, name="status"),
    path("<str:task_id>/events/", views.events, name="events"),
]
