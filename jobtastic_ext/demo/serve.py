"""What stands behind a page: a server for messages and results, and a worker."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from ..testing.server import EmbeddedServer
from ..testing.worker import Worker

__all__ = ("backstage",)


@contextmanager
def backstage(app: str, folder: Path) -> Iterator[int]:
    """Run a server and a worker of the Celery app in `folder`; yield the port for the page.

    Sets BROKER_URL and RESULT_BACKEND for this process and the worker.  If BROKER_URL is set
    already, no server is started, and no worker if WORKER is ``no``.  Everything ends with the
    block, and with this process, however that ends.
    """
    signal.signal(signal.SIGTERM, leave)
    os.chdir(folder)  # where jobtastic.yaml is
    port = int(os.environ.get("PORT", "8000"))
    with ExitStack() as stack:
        if "BROKER_URL" not in os.environ:
            server = stack.enter_context(EmbeddedServer())
            os.environ["BROKER_URL"] = server.url(0)
            print(f"Messages and results: {server.url(0)}", flush=True)
        os.environ.setdefault("RESULT_BACKEND", os.environ["BROKER_URL"])
        if os.environ.get("WORKER") != "no":
            log = Path(stack.enter_context(tempfile.TemporaryDirectory()), "worker.log")
            worker = stack.enter_context(Worker(log, app, concurrency=2))
            worker.wait_until_ready(60)
            print(f"Worker: process {worker.pid}, log in {log}", flush=True)
        print(f"The page: http://127.0.0.1:{port}/  (Ctrl-C ends it)", flush=True)
        try:
            yield port
        except KeyboardInterrupt:
            print(flush=True)


def leave(signum: int, frame: object) -> NoReturn:
    """End like Ctrl-C does, so that whatever was started is ended too."""
    sys.exit(128 + signum)
