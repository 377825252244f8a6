"""Signed status tokens: each opens one task, for a while, to one user if it says so."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import Any

import flask
import pytest

from jobtastic_ext.errors import ConfigurationError, InvalidTaskId
from jobtastic_ext.web import status_token
from tests.integration.conftest import Project
from tests.web.sites import SECRET, configure_django, site


def store(project: Project, result: Any) -> str:
    task_id = str(uuid.uuid4())
    project.app.backend.store_result(task_id, result, "SUCCESS")
    return task_id


def token_for(framework: str, result: Any, **options: Any) -> str:
    """Make a token as the code of such a project does."""
    if framework == "flask":
        application = flask.Flask("site")
        application.secret_key = SECRET
        with application.app_context():
            return status_token(result, **options)
    if framework == "django":
        configure_django()
        return status_token(result, **options)
    return status_token(result, secret=SECRET, **options)


def test_a_token_opens_its_task_and_no_other(framework: str, project: Project) -> None:
    mine, other = store(project, "mine"), store(project, "other")
    token = token_for(framework, project.app.AsyncResult(mine))
    with site(framework, project.app, signed=True) as pages:
        assert pages.status(mine, token=token).json["task"]["result"] == "mine"
        for reply in (
            pages.status(mine),
            pages.status(mine, token=""),
            pages.status(other, token=token),
            pages.status(mine, token=token_for(framework, other)),
        ):
            assert reply.status == 403, reply.body
            assert b"mine" not in reply.body
            assert b"other" not in reply.body.replace(b"another", b"")


def test_forged_tokens(framework: str, project: Project) -> None:
    task_id = store(project, "secret")
    token = token_for(framework, task_id)
    foreign = status_token(task_id, secret="the secret of somebody else")
    forged = [token[:-1], token + "A", token[::-1], token.upper(), foreign, "é", "a" * 3000, "\x00"]
    forged += [token.replace(token[3], "z" if token[3] != "z" else "y", 1), "....", "e30.e30"]
    with site(framework, project.app, signed=True) as pages:
        for one in forged:
            reply = pages.status(task_id, token=one)
            assert reply.status == 403, (one, reply.body)
            assert b"secret" not in reply.body
            assert b"Traceback" not in reply.body


def test_an_expired_token(framework: str, project: Project) -> None:
    task_id = store(project, 1)
    short, long = (token_for(framework, task_id, max_age=age) for age in (1, 600))
    with site(framework, project.app, signed=True) as pages:
        time.sleep(1.1)
        assert pages.status(task_id, token=long).status == 200
        reply = pages.status(task_id, token=short)
        assert (reply.status, "expired" in reply.json["error"]) == (403, True)


def test_many_tasks_need_a_token_each(framework: str, project: Project) -> None:
    ids = [store(project, n) for n in range(3)]
    tokens = [token_for(framework, one) for one in ids]
    query = "&".join([f"id={one}" for one in ids] + [f"token={one}" for one in reversed(tokens)])
    with site(framework, project.app, signed=True) as pages:
        reply = pages.get(f"/task/status/?{query}")
        assert [task["result"] for task in reply.json["tasks"]] == [0, 1, 2]
        short = query.rpartition("&")[0]
        assert pages.get(f"/task/status/?{short}").status == 403


def test_a_token_for_one_user(framework: str, project: Project) -> None:
    task_id = store(project, 1)
    anna = token_for(framework, task_id, user=7)

    def header(request: Any) -> str | None:
        headers = request["headers"] if isinstance(request, dict) else request.headers
        found = dict(headers).get(b"x-user") or dict(headers).get("X-User")
        return found.decode() if isinstance(found, bytes) else found

    path = f"/task/{task_id}/status/?token={anna}"
    with site(framework, project.app, signed=True, user=header) as pages:
        assert pages.get(path, X_User="7").status == 200
        assert pages.get(path, X_User="8").status == 403
        assert pages.get(path).status == 403
    with site(framework, project.app, signed=True) as pages:
        assert pages.get(path, X_User="7").status == 403  # nobody tells who asks
        open_to_all = token_for(framework, task_id)
        assert pages.status(task_id, token=open_to_all).status == 200


def test_a_secret_of_ones_own(framework: str, project: Project) -> None:
    task_id = store(project, 1)
    old, new = "the old secret, 16 or more", "the new secret, 16 or more"
    with site(framework, project.app, signed=[new, old]) as pages:
        for secret in (new, old, [new, old]):
            token = status_token(task_id, secret=secret)
            assert pages.status(task_id, token=token).status == 200
        framework_token = token_for(framework, task_id)
        assert pages.status(task_id, token=framework_token).status == 403


def test_both_a_token_and_authorize_have_to_agree(framework: str, project: Project) -> None:
    task_id = store(project, 1)
    token = token_for(framework, task_id)
    with site(framework, project.app, signed=True, authorize=lambda *_: False) as pages:
        assert pages.status(task_id, token=token).status == 403
    with site(framework, project.app, signed=True, authorize=lambda *_: True) as pages:
        assert pages.status(task_id).status == 403
        assert pages.status(task_id, token=token).status == 200


def test_no_token_without_a_key() -> None:
    # A process of its own: in this one Django is set up.
    code = "from jobtastic_ext.web import status_token; status_token('a')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in done.stderr
    assert "secret=" in done.stderr
    code = "from jobtastic_ext.web.asgi import status_app; status_app(None, signed=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in done.stderr


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too short"):
        status_token("a", secret="hunter2")
    with pytest.raises(InvalidTaskId):
        status_token("a b", secret=SECRET)


def test_flask_without_a_secret_key(project: Project, caplog: Any) -> None:
    from jobtastic_ext.web.flask import blueprint

    application = flask.Flask("site")
    application.register_blueprint(blueprint(project.app, signed=True), url_prefix="/task")
    reply = application.test_client().get("/task/a/status/?token=x")
    assert reply.status_code == 503
    assert "SECRET_KEY" in caplog.text
