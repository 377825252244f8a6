"""The page in Django's admin: who sees it, and who may let go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
from celery import Celery

from jobtastic_ext.runtime import close_runtime, runtime_of
from tests.web.admin_project import make_app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.web.admin_project"],
        cwd=ROOT,
        env={**os.environ, "ADMIN_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        while port and not port.isdigit():  # what `check` says
            port = process.stdout.readline().strip()
        assert port, "the project did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def app(folder: Path) -> Iterator[Celery]:
    app = make_app(str(folder))
    yield app
    close_runtime(app)
    app.close()


class Browser:
    """One who is logged in."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.opener: OpenerDirector = build_opener(HTTPCookieProcessor(CookieJar()))
        page = self.get("/admin/login/")
        fields = {"username": name, "password": name, "csrfmiddlewaretoken": token_of(page)}
        assert "Log out" in self.post("/admin/login/?next=/admin/", fields)[1]

    def get(self, path: str) -> str:
        with self.opener.open(self.address + path, timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, str]:
        named = {"Origin": self.address, **headers}
        request = Request(self.address + path, urlencode(fields).encode(), named)
        try:
            with self.opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


PAGE = "/admin/jobtastic/claim/"


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None
    return unescape(found[1])


def keys(app: Any) -> list[str]:
    runtime = runtime_of(app)
    assert runtime is not None
    return [one.key for one in runtime.desk.claims()]


def test_who_may_forget_does_so_with_the_token_of_the_form(address: str, app: Celery) -> None:
    result = app.tasks["reports.divide"].delay("a secret")
    (key,) = keys(app)
    ada = Browser(address, "ada")
    assert PAGE in ada.get("/admin/")
    page = ada.get(PAGE)
    assert result.id in page
    assert "a secret" not in page
    assert '<a href="/admin/">Administration</a>' in page
    assert ada.post(PAGE, {"key": key})[0] == 403
    assert ada.post(PAGE, {"key": key, "csrfmiddlewaretoken": "x" * 64})[0] == 403
    assert keys(app) == [key]
    status, page = ada.post(PAGE, {"key": key, "csrfmiddlewaretoken": token_of(page)})
    assert status == 200
    assert "Forgotten." in page
    assert keys(app) == []


def test_who_may_look_sees_no_button_and_who_may_not_sees_nothing(
    address: str, app: Celery
) -> None:
    app.tasks["reports.divide"].delay("another secret")
    held = keys(app)
    bob = Browser(address, "bob")
    page = bob.get(PAGE)
    assert "reports.divide" in page
    assert "<form" not in page
    token = token_of(bob.get("/admin/"))  # of the form that logs out
    assert bob.post(PAGE, {"key": held[0], "csrfmiddlewaretoken": token})[0] == 403
    assert keys(app) == held
    cid = Browser(address, "cid")
    with pytest.raises(HTTPError, match="403"):
        cid.get(PAGE)
    with pytest.raises(HTTPError, match="403"):
        bob.get(f"{PAGE}add/")
