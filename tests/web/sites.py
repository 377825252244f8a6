"""The status view behind a real HTTP server, for each framework, in threads of the tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlencode

import django
import flask
import uvicorn
from celery import Celery
from django.conf import settings
from django.test.utils import override_settings
from werkzeug.serving import WSGIRequestHandler, make_server

from jobtastic_ext.testing.server import LOOPBACK, free_port
from jobtastic_ext.web.asgi import status_app
from jobtastic_ext.web.flask import blueprint
from tests.servers import wait_until

FRAMEWORKS = ("django", "flask", "asgi")

SECRET = "a secret that only the tests know"


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """A server that answers under ``/task/``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, *, method: str = "GET", timeout: float = 30, **headers: str) -> Reply:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def status(self, task_id: str, **query: str) -> Reply:
        return self.get(f"/task/{task_id}/status/" + (f"?{urlencode(query)}" if query else ""))

    def task(self, task_id: str) -> dict[str, Any]:
        reply = self.status(task_id)
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json["task"]
        return found

    def many(self, ids: list[str], **query: str) -> Reply:
        pairs = [("id", one) for one in ids] + list(query.items())
        return self.get(f"/task/status/?{urlencode(pairs)}")


def site(
    framework: str, app: Celery, *, timeout: float | None = 20, **options: Any
) -> AbstractContextManager[Site]:
    """The views of one framework.  A busy machine may answer late; `timeout` None is their own."""
    if timeout is not None:
        options["timeout"] = timeout
    return {"django": django_site, "flask": flask_site, "asgi": asgi_site}[framework](
        app, **options
    )


class Quiet(WSGIRequestHandler):
    def log(self, *args: Any, **kwargs: Any) -> None: ...


@contextmanager
def wsgi(application: Any) -> Iterator[Site]:
    server = make_server(LOOPBACK, 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(server.server_port)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextmanager
def flask_site(app: Celery, **options: Any) -> Iterator[Site]:
    application = flask.Flask("site")
    application.secret_key = SECRET
    application.register_blueprint(blueprint(app, **options), url_prefix="/task")
    with wsgi(application) as served:
        yield served


def configure_django() -> None:
    if not settings.configured:
        settings.configure(
            SECRET_KEY=SECRET,
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="tests.web.django_urls",
            USE_TZ=True,
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        )
        django.setup()


@contextmanager
def django_site(app: Celery, **options: Any) -> Iterator[Site]:
    configure_django()
    from django.core.wsgi import get_wsgi_application

    chosen = override_settings(JOBTASTIC_STATUS={"app": app, **options})
    with chosen, wsgi(get_wsgi_application()) as served:
        yield served


@contextmanager
def asgi_site(app: Celery, **options: Any) -> Iterator[Site]:
    if options.get("signed") is True:
        options["signed"] = SECRET
    with serve_asgi(mounted("/task", status_app(app, **options))) as served:
        yield served


def mounted(prefix: str, application: Any) -> Any:
    """Mount an application as ASGI has it: the path stays whole, the root path grows."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": scope.get("root_path", "") + prefix}
        await application(scope, receive, send)

    return outer


@contextmanager
def serve_asgi(application: Any) -> Iterator[Site]:
    port = free_port()
    config = uvicorn.Config(
        application, host=LOOPBACK, port=port, log_level="error", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Site(port)
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def closing(*sites: AbstractContextManager[Site]) -> Iterator[list[Site]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(one) for one in sites]
