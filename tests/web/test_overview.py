"""The overview, by Flask and by ASGI: what it shows, to whom, and letting go of a call."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import unescape
from typing import Any
from urllib.parse import urlencode

import flask
import pytest
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web.asgi import overview_app
from jobtastic_ext.web.flask import overview
from tests.stores.redis_contract import direct
from tests.web.sites import Reply, Site, mounted, serve_asgi, wsgi

#: A name that would be markup, were it not escaped.
ODD = "reports.<script>alert(1)</script>"


def same(x: Any) -> Any:
    return x


@pytest.fixture
def app(tmp_path: Any) -> Iterator[Celery]:
    app = Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(
        jobtastic_policy={"tasks": {"reports.*": {"cache_duration": "1h"}}},
        jobtastic_store=f"sqlite:///{tmp_path / 'claims.sqlite3'}",
    )
    app.steps["worker"].add(JobtasticStep)
    for name in ("reports.divide", ODD):
        app.task(same, name=name, shared=False)
    app.finalize()
    yield app
    close_runtime(app)
    app.close()


def by_flask(app: Celery, **options: Any) -> AbstractContextManager[Site]:
    application = flask.Flask("site")
    application.register_blueprint(overview(app, **options), url_prefix="/jobtastic")
    return wsgi(application)


def by_asgi(app: Celery, **options: Any) -> AbstractContextManager[Site]:
    return serve_asgi(mounted("/jobtastic", overview_app(app, **options)))


Serve = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(params=[by_flask, by_asgi], ids=["flask", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    return request.param  # type: ignore[no-any-return]


def yes(request: Any) -> bool:
    return True


def no(request: Any) -> bool:
    return False


@contextmanager
def asked(site: Site, method: str, form: dict[str, str], **headers: str) -> Iterator[Reply]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    named = {"Content-Type": "application/x-www-form-urlencoded"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, "/jobtastic/", urlencode(form), named)
        yield Reply(connection.getresponse())
    finally:
        connection.close()


def post(site: Site, key: str, **headers: str) -> Reply:
    with asked(site, "POST", {"key": key, "since": "1d"}, **headers) as reply:
        return reply


def keys(app: Celery) -> list[str]:
    runtime = runtime_of(app)
    assert runtime is not None
    return [one.key for one in runtime.desk.claims()]


def text_of(page: bytes) -> str:
    shown = re.sub(r"<style>.*?</style>", "", page.decode(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def test_it_shows_savings_and_claims_and_escapes_them(app: Celery, serve: Serve) -> None:
    divide = app.tasks["reports.divide"]
    first = divide.delay("a secret")
    assert divide.delay("a secret").decision == "joined"
    app.tasks[ODD].delay(2)
    with serve(app, authorize=yes) as site:
        reply = site.get("/jobtastic/")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    body = reply.body.decode()
    assert "<script" not in body
    assert " style=" not in body
    text = text_of(reply.body)
    assert "reports.divide 2 0 1 0 50%" in text
    assert f"reports.divide queued {first.id}" in text
    assert ODD in text
    assert "a secret" not in body
    assert "Forget" not in text


def test_it_does_not_look_for_ever_in_a_store_full_of_other_things(
    app: Celery, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobtastic_ext.web.overview.SECONDS", 0)
    app.conf.jobtastic_store = redis_server.url(9)
    with direct(redis_server.port, db=9) as client, by_flask(app, authorize=yes) as site:
        client.mset({f"another:{n}": "x" for n in range(20_000)})
        client.config_resetstat()
        reply = site.get("/jobtastic/")
        looks = client.info("commandstats")["cmdstat_scan"]["calls"]
        client.flushdb()
    assert "None was found in time" in text_of(reply.body)
    assert looks < 10


def test_nobody_sees_it_who_may_not_and_it_is_refused_without_an_authorize(
    app: Celery, serve: Serve
) -> None:
    app.tasks["reports.divide"].delay(1)
    for said in (False, None, 1, "yes"):
        with serve(app, authorize=lambda request, said=said: said) as site:
            reply = site.get("/jobtastic/")
            assert reply.status == 403
            assert b"divide" not in reply.body
    for options in ({}, {"authorize": None}, {"authorize": True}, {"may_forget": yes}):
        with pytest.raises(ConfigurationError, match="give `authorize=`"):
            serve(app, **options)


def test_a_form_of_the_page_lets_go_and_no_other_does(app: Celery, serve: Serve) -> None:
    app.tasks["reports.divide"].delay(1)
    (key,) = keys(app)
    with serve(app, authorize=yes, may_forget=yes) as site:
        page = site.get("/jobtastic/?since=1d").body.decode()
        assert f'name="key" value="{key}"' in page
        host = f"127.0.0.1:{site.port}"
        for headers in (
            {},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{host}", "Sec_Fetch_Site": "cross-site"},
            {"Origin": f"http://{host}", "Sec_Fetch_Site": "same-site"},
        ):
            assert post(site, key, **headers).status == 403, headers
        assert keys(app) == [key]
        done = post(site, key, Origin=f"http://{host}")
        assert (done.status, done.headers["Location"]) == (303, "?since=1d&said=forgotten")
        assert keys(app) == []
        again = post(site, key, Sec_Fetch_Site="same-origin")
        assert again.headers["Location"] == "?since=1d&said=gone"
        assert "Forgotten. The next" in text_of(site.get("/jobtastic/?said=forgotten").body)


def test_who_may_look_may_not_forget(app: Celery, serve: Serve) -> None:
    app.tasks["reports.divide"].delay(1)
    (key,) = keys(app)
    for options in ({}, {"may_forget": no}):
        with serve(app, authorize=yes, **options) as site:
            assert post(site, key, Sec_Fetch_Site="same-origin").status == 403
    with serve(app, authorize=no, may_forget=yes) as site:
        assert post(site, key, Sec_Fetch_Site="same-origin").status == 403
    assert keys(app) == [key]


def test_a_form_lets_go_of_nothing_but_calls_of_this_deployment(app: Celery, serve: Serve) -> None:
    runtime = runtime_of(app)
    assert runtime is not None
    prefix = runtime.settings.key_prefix
    foreign = f"{'x' * len(prefix)}:reports.divide:{'0' * 32}"
    history = f"{prefix}:%history:reports.divide"
    for key in (foreign, history):
        assert runtime.store.swap(key, None, b"{}", 60_000)
    with serve(app, authorize=yes, may_forget=yes) as site:
        for key in ("", foreign, history, "x" * 10_000):
            reply = post(site, key, Sec_Fetch_Site="same-origin")
            assert reply.headers["Location"] == "?since=1d&said=gone"
        assert post(site, "x" * 30_000, Sec_Fetch_Site="same-origin").status == 413
    assert runtime.store.load([foreign, history]) == [b"{}", b"{}"]


def test_other_methods_and_odd_queries(app: Celery, serve: Serve) -> None:
    with serve(app, authorize=yes) as site:
        assert site.get("/jobtastic/", method="DELETE").status == 405
        assert site.get("/jobtastic/?since=<b>&said=<b>").status == 200
        assert site.get("/jobtastic/", method="HEAD").body == b""


def test_an_async_authorize_is_awaited_by_asgi_and_refused_elsewhere(app: Celery) -> None:
    async def knows(scope: Any) -> bool:
        return dict(scope["headers"]).get(b"x-user") == b"ada"

    with by_asgi(app, authorize=knows) as site:
        assert site.get("/jobtastic/").status == 403
        assert site.get("/jobtastic/", X_User="ada").status == 200
    with pytest.raises(ConfigurationError, match="awaited by ASGI only"):
        by_flask(app, authorize=knows)


def test_a_store_that_is_down_is_said(
    app: Celery, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobtastic_ext.errors import StoreUnavailable
    from jobtastic_ext.operations.desk import Desk

    def down(*_: Any) -> Any:
        raise StoreUnavailable("at secret.internal:6379")

    with serve(app, authorize=yes) as site:
        monkeypatch.setattr(Desk, "pages", down)
        reply = site.get("/jobtastic/")
        assert reply.status == 200
        assert "This store cannot list" in text_of(reply.body)
        monkeypatch.setattr(Desk, "savings", down)
        reply = site.get("/jobtastic/")
        assert reply.status == 503
        assert b"secret" not in reply.body
