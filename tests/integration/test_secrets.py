"""What a failure shows: a sentence and a type.  What a log tells: no password, no argument.

Bare Celery shows the driver's words to whoever called; ours end on pages and in stored results.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import flask
import pytest
import redis
import sqlalchemy
from celery import Celery
from kombu.exceptions import OperationalError

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.settings import read_settings
from jobtastic_ext.stores import open_store
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web import task_status
from jobtastic_ext.web.flask import blueprint
from tests.integration.conftest import Project, wait_until
from tests.servers import SilentServer, closed_port, installed

# kombu's transport for databases, on newer SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

PASSWORD, ARGUMENT = "s3cr3tpassword", "s3cr3targument"

#: Both as they are, and an argument as the body of a message has it: in base64, at any offset.
SECRETS = (PASSWORD, ARGUMENT, "czNjcjN0YXJndW1lbnQ", "MzY3IzdGFyZ3VtZW50", "zM2NyM3RhcmdWVud")


def refused(stack: ExitStack, folder: Path) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{closed_port()}/0"


def refused_amqp(stack: ExitStack, folder: Path) -> str:
    return f"amqp://guest:{PASSWORD}@127.0.0.1:{closed_port()}//"


def silent(stack: ExitStack, folder: Path) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{stack.enter_context(SilentServer()).port}/0"


def unknown_host(stack: ExitStack, folder: Path) -> str:
    return f"redis://:{PASSWORD}@no-such-host.invalid:6379/0"


def wrong_password(stack: ExitStack, folder: Path) -> str:
    return server(stack, ("CONFIG", "SET", "requirepass", "another"))


def no_rights(stack: ExitStack, folder: Path) -> str:
    rights = ("ACL", "SETUSER", "default", "on", f">{PASSWORD}", "~*", "+@all", "-lpush")
    return server(stack, rights)


def unknown_command(stack: ExitStack, folder: Path) -> str:
    return server(stack, config=f'requirepass {PASSWORD}\nrename-command LPUSH ""')


def out_of_memory(stack: ExitStack, folder: Path) -> str:
    return server(stack, ("CONFIG", "SET", "maxmemory", "1"))


def read_only(stack: ExitStack, folder: Path) -> str:
    return server(stack, ("REPLICAOF", "127.0.0.1", str(closed_port())))


def too_many_clients(stack: ExitStack, folder: Path) -> str:
    return server(stack, ("CONFIG", "SET", "maxclients", "1"))


def a_database(stack: ExitStack, folder: Path) -> str:
    path = folder / "broker.sqlite3"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("CREATE TABLE kombu_queue (id INTEGER PRIMARY KEY, name TEXT)")
        )
        connection.execute(sqlalchemy.text("CREATE TABLE kombu_message (id INTEGER)"))
    engine.dispose()
    return f"sqla+sqlite:///{path}"


def no_folder(stack: ExitStack, folder: Path) -> str:
    return "filesystem://"


def server(stack: ExitStack, *commands: tuple[str, ...], config: str = "") -> str:
    """A server with the password, to which something has been said."""
    started = stack.enter_context(EmbeddedServer(installed()))
    if config:
        started = stack.enter_context(EmbeddedServer(installed(), config=config.split("\n")[1]))
    client = stack.enter_context(redis.Redis(port=started.port))
    client.config_set("requirepass", PASSWORD)
    client.execute_command("AUTH", PASSWORD)
    for command in commands:
        client.execute_command(*command)
    return f"redis://:{PASSWORD}@127.0.0.1:{started.port}/0"


KINDS: tuple[Callable[[ExitStack, Path], str], ...] = (
    refused,
    refused_amqp,
    silent,
    unknown_host,
    wrong_password,
    no_rights,
    unknown_command,
    out_of_memory,
    read_only,
    too_many_clients,
    a_database,
    no_folder,
)


def start(start_project: Any, url: str, folder: Path, mode: str, **settings: Any) -> Project:
    if url == "filesystem://":
        (folder / "file").touch()
        inside = str(folder / "file" / "queue")
        options = {"data_folder_in": inside, "data_folder_out": inside, "control_folder": inside}
        settings["broker_transport_options"] = options
    policy = {"tasks": {"reports.based": {"on_broker_error": mode}}}
    settings["jobtastic_publish_timeout"] = 2
    return start_project(broker_url=url, jobtastic_policy=policy, **settings)  # type: ignore[no-any-return]


def clean(*texts: str) -> None:
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text], text


def stored(project: Project, task_id: str) -> str:
    return str(project.app.backend.client.get(project.app.backend.get_key_for_task(task_id)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_failure_shows_a_sentence_and_a_type(
    start_project: Any, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.INFO):
        project = start(start_project, kind(stack, tmp_path), tmp_path, "fail")
        for _ in range(2):
            failed = project.task("based").delay(ARGUMENT)
            assert failed.state == "FAILURE"
            words = str(failed.result)
            assert words.startswith("the broker did not take the message")
            assert "127.0.0.1" not in words + failed.traceback
            shown = json.dumps(task_status(project.app, failed.id))
            assert "FAILURE" in shown
            clean(words, repr(failed.result), failed.traceback, shown, stored(project, failed.id))
    clean(*(f"{record.getMessage()} {record.exc_text}" for record in caplog.records))


@pytest.mark.parametrize("kind", [refused, unknown_command, a_database])
def test_who_joined_a_call_that_raised_is_shown_no_more(
    start_project: Any, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.INFO):
        project = start(start_project, kind(stack, tmp_path), tmp_path, "raise")
        with pytest.raises(OperationalError):  # the caller's own, as with bare Celery
            project.task("based").delay(ARGUMENT)
        (mark,) = project.claim("based", ARGUMENT).tombstones
        task_id = mark.partition(":")[2]
        wait_until(lambda: project.app.AsyncResult(task_id).state == "FAILURE")
        clean(stored(project, task_id), json.dumps(task_status(project.app, task_id)))
    clean(*(record.getMessage() for record in caplog.records))


def test_a_log_of_a_complete_outage(
    start_project: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{closed_port(1)}"
    with ExitStack() as stack, caplog.at_level(logging.INFO):
        project = start(
            start_project,
            refused(stack, tmp_path),
            tmp_path,
            "fail",
            result_backend=f"{url}/1",
            jobtastic_store=f"{url}/2",
        )
        for _ in range(3):
            failed = project.task("based").delay(ARGUMENT)
            clean(str(failed.result), failed.traceback)
        assert runtime_of(project.app).broker.circuit.is_open  # type: ignore[union-attr]
    clean(*(record.getMessage() for record in caplog.records))
    assert "the broker does not answer" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"redis:/:{PASSWORD}@localhost/0",
        f"redis//:{PASSWORD}@localhost/0",
        f"{PASSWORD}@redis://localhost/0",
        f"redsi://:{PASSWORD}@localhost/0",
        f"redis://:{PASSWORD}/@localhost:6379/0",
        f"redis://localhost:{PASSWORD}@6379/0",
        f"redis://:a#{PASSWORD}@localhost:6379/0",
        f"sentinel://:{PASSWORD}@localhost:x/0",
        f"redis+cluster://:{PASSWORD}/@localhost:6379",
        f"sqlite://:{PASSWORD}@localhost/file",
        f"memory://:{PASSWORD}@localhost?option={PASSWORD}",
    ],
)
def test_a_mistyped_url_of_a_store_does_not_show_its_password(url: str) -> None:
    conf = {"result_backend": "redis://localhost", "jobtastic_store": url}
    try:
        settings = read_settings(conf)
        open_store(settings.store, **settings.store_options).close()
    except ConfigurationError as error:
        clean("".join(traceback.format_exception(error)))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}/@localhost:6379/0",
        f"redis//:{PASSWORD}@localhost/0",
        f"db+postgresql//u:{PASSWORD}@localhost/results",
        f"db+postgresql:/u:{PASSWORD}@localhost/results",
        PASSWORD,
    ],
)
def test_a_mistyped_url_of_a_result_backend_is_a_503_that_shows_no_password(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("mistyped", broker="memory://", backend=url, set_as_current=False)
    site = flask.Flask("site")
    site.register_blueprint(blueprint(app), url_prefix="/task")
    with caplog.at_level(logging.INFO):
        reply = site.test_client().get("/task/abc/status/")
    assert (reply.status_code, reply.mimetype) == (503, "application/json")
    clean(reply.text, *(f"{record.getMessage()} {record.exc_text}" for record in caplog.records))
