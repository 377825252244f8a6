"""A server on loopback that plays scripted answers to a browser, and notes what it was asked."""

from __future__ import annotations

import json
import mimetypes
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page

STATIC = Path(__file__).resolve().parents[2] / "jobtastic_ext" / "static"

#: One step of a script: a task dict, an HTTP status, or None for a connection that is cut.
#: A `threading.Event` holds the next of them back until it is set.
Step = dict[str, Any] | int | threading.Event | None


def task(status: str, result: object = None, **more: object) -> dict[str, Any]:
    return {"id": "some-task", "status": status, "result": result, **more}


def progress(percent: float, left: float = -1, **more: object) -> dict[str, Any]:
    return task(
        "PROGRESS", {"progress_percent": percent, "time_remaining": left, **more}, retry_after=0.1
    )


class Stub:
    """Serves pages, files and the scripted states of tasks; ends with the ``with`` block."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.seen: list[tuple[str, float]] = []
        #: Set when the browser has let go of an event stream.
        self.stream_ended = threading.Event()
        self._statuses: dict[str, list[Step]] = {}
        self._events: dict[str, list[dict[str, Any] | threading.Event]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub._answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet: `seen` holds the requests."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 100

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Stub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page(self, body: str, head: str = "", lang: str = "en") -> str:
        """Serve a page with the client in it; return its address."""
        html = (
            f'<!doctype html><html lang="{lang}"><head><title>Test</title>'
            '<meta charset="utf-8"><link rel="icon" href="data:,">'
            "<style>:root { color-scheme: light dark; font-family: sans-serif } "
            # Named, because axe takes a page without a background to be white.
            "body { margin: 2rem; background: Canvas; color: CanvasText }</style>"
            '<script type="module" src="/static/jobtastic_ext/jobtastic.js"></script>'
            f"{head}</head><body><main><h1>A page</h1>{body}</main></body></html>"
        )
        path = f"/page-{len(self.files)}"
        self.files[path] = ("text/html; charset=utf-8", html.encode())
        return self.url + path

    def status(self, task_id: str, steps: Iterable[Step]) -> str:
        """Play `steps`, one a request, the last for ever; return the path of the status."""
        self._statuses[task_id] = list(steps)
        return f"/task/{task_id}/status/"

    def events(self, task_id: str, steps: Iterable[dict[str, Any] | threading.Event]) -> None:
        """Send `steps` as events, waiting for each `threading.Event` between; then stay open."""
        self._events[task_id] = list(steps)

    def asked(self, part: str) -> list[float]:
        """When requests whose path holds `part` came, in seconds of the monotonic clock."""
        with self._lock:
            return [at for path, at in self.seen if part in path]

    def asks_no_more(self, page: Page, part: str = "/status/", seconds: float = 1.5) -> bool:
        """Whether nothing comes for so long, once all that the page had asked before has come."""
        page.evaluate("fetch(location.href).then((answer) => answer.text())")
        page.wait_for_timeout(200)
        asked = len(self.asked(part))
        page.wait_for_timeout(1000 * seconds)
        return len(self.asked(part)) == asked

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.seen.append((request.path, time.monotonic()))
        path = urlsplit(request.path).path
        if path in self.files:
            kind, body = self.files[path]
            send(request, 200, body, kind)
        elif path.startswith("/static/"):
            file = STATIC / path.removeprefix("/static/")
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            send(request, 200, file.read_bytes(), kind)
        elif path.endswith("/status/"):
            self._send_status(request, path.split("/")[-3])
        elif path.endswith("/events/"):
            self._send_events(request, path.split("/")[-3])
        else:
            send(request, 404, b"no such page", "text/plain")

    def _send_status(self, request: BaseHTTPRequestHandler, task_id: str) -> None:
        step = self._next(task_id)
        while isinstance(step, threading.Event):
            while not step.wait(0.05) and not self._closing.is_set():
                pass
            step = self._next(task_id)
        if step is None:
            request.close_connection = True
        elif isinstance(step, int):
            send(request, step, b"trouble", "text/plain")
        else:
            many = {"tasks": step["tasks"]} if "tasks" in step else {"task": step}
            send(request, 200, json.dumps(many).encode(), "application/json")

    def _next(self, task_id: str) -> Step:
        with self._lock:
            steps = self._statuses[task_id]
            return steps.pop(0) if len(steps) > 1 else steps[0]

    def _send_events(self, request: BaseHTTPRequestHandler, task_id: str) -> None:
        if task_id not in self._events:
            # As a server without events may say it without an error on the browser's console.
            send(request, 204, b"", None)
            return
        request.close_connection = True
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        try:
            for step in self._events[task_id]:
                if isinstance(step, threading.Event):
                    self._until(request, step.is_set)
                else:
                    data = json.dumps({"task": step})
                    request.wfile.write(f"data: {data}\n\n".encode())
            self._until(request, lambda: False)
        except ConnectionError:
            self.stream_ended.set()

    def _until(self, request: BaseHTTPRequestHandler, holds: Callable[[], bool]) -> None:
        """Keep a stream alive with comments; raises ConnectionError once the browser left."""
        while not holds() and not self._closing.is_set():
            request.wfile.write(b": alive\n\n")
            time.sleep(0.05)


def send(request: BaseHTTPRequestHandler, code: int, body: bytes, kind: str | None) -> None:
    request.send_response(code)
    if kind:
        request.send_header("Content-Type", kind)
    request.send_header("Cache-Control", "no-store")
    if code != 204:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
