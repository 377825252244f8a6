"""The status view as a Flask blueprint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from flask import Blueprint, Response, request

from .access import make_access
from .overview import LONGEST_FORM, Asked, Overview, refused
from .stored import Limits
from .tokens import Secret
from .views import StatusView

__all__ = ("blueprint", "overview")

STATIC = Path(__file__).parent.parent / "static" / "jobtastic_ext"


def blueprint(
    app: Celery,
    *,
    authorize: Callable[[Any, str], Any] | None = None,
    signed: bool | Secret = False,
    user: Callable[[Any], Any] | None = None,
    tracebacks: bool = False,
    max_result: int | None = 5_000_000,
    timeout: float = 1.0,
    messages: str = "all",
    public_exceptions: Iterable[type[BaseException] | str] = (),
    legacy: bool = False,
    name: str = "jobtastic",
) -> Blueprint:
    """Return a blueprint that tells of the tasks of the Celery app `app`.

    Register it with a prefix: ``flask_app.register_blueprint(blueprint(app), url_prefix="/task")``
    serves ``/task/<id>/status/``, ``/task/status/?id=…&id=…``, and the browser's files as
    ``url_for("jobtastic.static", filename="jobtastic.js")``.

    `authorize(request, task_id)` returns whether this request may see this task: True, or it may
    not.  `signed` asks for a token of `status_token`: True for one that is signed with the Flask
    app's secret key, or the secret itself; `user(request)` tells who asks, for tokens made for one
    user.  `legacy`: pages still have jquery-celery, which an outage would end.  The rest is as for
    `task_status`.  Raises `ConfigurationError` for an option that means nothing.
    """
    limits = Limits(
        tracebacks=tracebacks,
        max_result=max_result,
        timeout=timeout,
        messages=messages,
        public_exceptions=public_exceptions,
    )
    access = make_access(authorize=authorize, signed=signed, user=user)
    return _routes(name, StatusView(lambda: app, limits, access, legacy=legacy))


def overview(
    app: Celery,
    *,
    authorize: Callable[[Any], Any] | None = None,
    may_forget: Callable[[Any], Any] | None = None,
    name: str = "jobtastic_overview",
) -> Blueprint:
    """Return a blueprint with one page for operators: what is saved, and what is under way.

    ``flask_app.register_blueprint(overview(app, authorize=is_admin), url_prefix="/jobtastic")``.

    `authorize(request)` returns True for those who may see it: all tasks and ids, no arguments.
    `may_forget(request)` returns True for those who may let go of a call, too; nobody may if it is
    left out.  Raises `ConfigurationError` without an `authorize`.
    """
    page = Overview(lambda: app, authorize, may_forget)
    routes = Blueprint(name, __name__)

    @routes.route("/", methods=["GET", "POST"])
    def index() -> Response:
        length = request.content_length
        if request.method == "POST" and (length is None or length > LONGEST_FORM):
            too_long = refused(413, "This form is too long.")
            return Response(too_long.body, too_long.status, too_long.headers)
        given = page.answer(
            Asked(
                request=request,
                method=request.method,
                query=request.args,
                form=request.form,
                headers={name.lower(): value for name, value in request.headers.items()},
            )
        )
        return Response(given.body, given.status, given.headers)

    return routes


def _routes(name: str, view: StatusView) -> Blueprint:
    routes = Blueprint(name, __name__, static_folder=STATIC, static_url_path="/static")

    def answer(ids: Sequence[str], *, many: bool = False) -> Response:
        given = view.answer(
            request,
            ids,
            request.args.getlist("token"),
            method=request.method,
            etag=request.headers.get("If-None-Match"),
            many=many,
        )
        return Response(given.body, given.status, given.headers)

    @routes.get("/<task_id>/status/")
    def status(task_id: str) -> Response:
        return answer([task_id])

    @routes.get("/status/")
    def status_of_many() -> Response:
        return answer(request.args.getlist("id"), many=True)

    @routes.get("/<task_id>/events/")
    def events(task_id: str) -> Response:
        """Say that there are none here: a client that hears this asks for the status instead."""
        return Response(status=204)

    return routes
