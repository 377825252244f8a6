"""500 browsers follow one task on one server process: told by events, or asking every second.

    python -m benchmarks.bench_web

The page's server is a uvicorn of its own process, the result backend a Redis of its own.  Both ways
follow the same task, which reports five times a second, one after the other.  `backend` counts the
reads of the result backend (not the task's own writing), `late` is the time from the report to
the client that shows it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import shutil
import socket
import threading
import time
import uuid
from statistics import median, quantiles
from typing import Any

import psutil
import redis
import uvicorn
from celery import Celery

from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, free_port, server_binary
from jobtastic_ext.web.asgi import status_app

CLIENTS, SECONDS, REPORTS = 500, 10.0, 5

#: Commands by which the result backend is read; `store_result` reads once for each report.
READS = ("get", "mget", "subscribe", "unsubscribe")


def make_app(url: str) -> Celery:
    app = Celery("bench-web", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=url)
    return app


def serve(url: str, port: int) -> None:
    """Run the page's server."""
    uvicorn.run(
        status_app(make_app(url)),
        host=LOOPBACK,
        port=port,
        log_level="error",
        backlog=CLIENTS,
        timeout_graceful_shutdown=1,
    )


class Reporter(threading.Thread):
    """Reports like a worker does, with the time in each report."""

    def __init__(self, app: Celery, task_id: str) -> None:
        super().__init__(daemon=True)
        self.app, self.task_id = app, task_id
        self.over = threading.Event()
        self.count = 0

    def run(self) -> None:
        while not self.over.wait(1 / REPORTS):
            self.count += 1
            # Little time is left, so that a page that asks is told to ask again soon.
            report = {"progress_percent": 50.0, "time_remaining": 10.0, "at": time.time()}
            self.app.backend.store_result(self.task_id, report, "PROGRESS")


class Crowd:
    """500 clients, and what they have seen."""

    def __init__(self, port: int, task_id: str) -> None:
        self.port, self.task_id = port, task_id
        self.answers = 0
        self.late: list[float] = []
        self.counting = False

    def saw(self, body: bytes) -> dict[str, Any]:
        task: dict[str, Any] = json.loads(body)["task"]
        if self.counting:
            self.answers += 1
            if task["result"]:
                self.late.append(time.time() - task["result"]["at"])
        return task

    async def ask(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port, limit=1 << 20)
        self.request(writer, path)
        return reader, writer

    def request(self, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(f"GET /{self.task_id}/{path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def told(self) -> None:
        """Follow the events of the task."""
        reader, writer = await self.ask("events")
        try:
            while True:
                line = await reader.readline()
                if line.startswith(b"data: "):
                    self.saw(line[6:])
        finally:
            writer.close()

    async def asking(self) -> None:
        """Ask for the status as often as the answer says."""
        reader, writer = await self.ask("status")
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                task = self.saw(await reader.readexactly(length))
                await asyncio.sleep(task.get("retry_after", 1.0))
                self.request(writer, "status")
        finally:
            writer.close()

    async def follow(self, way: str, warm: float, seconds: float, count: Any) -> Any:
        clients = []
        for n in range(CLIENTS):
            clients.append(asyncio.create_task(getattr(self, way)()))
            if n % 50 == 49:
                await asyncio.sleep(0.1)  # a server's queue of new connections is short
        await asyncio.sleep(warm)
        before, self.counting = count(), True
        await asyncio.sleep(seconds)
        self.counting, after = False, count()
        failed = [one for one in clients if one.done()]
        assert not failed, failed[0].exception()
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        return before, after


def measure(way: str, server: EmbeddedServer) -> dict[str, float]:
    port, task_id = free_port(), str(uuid.uuid4())
    web = multiprocessing.get_context("spawn").Process(target=serve, args=(server.url(0), port))
    web.start()
    try:
        wait_for(port)
        process = psutil.Process(web.pid)
        empty = process.memory_info().rss
        reporter = Reporter(make_app(server.url(0)), task_id)
        reporter.start()
        crowd = Crowd(port, task_id)
        with redis.Redis.from_url(server.url(0)) as client:

            def count() -> tuple[int, float, float]:
                stats = client.info("commandstats")
                reads = sum(
                    int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in READS
                )
                times = process.cpu_times()
                return reads - reporter.count, times.user + times.system, time.monotonic()

            before, after = asyncio.run(crowd.follow(way, 3.0, SECONDS, count))
            full = process.memory_info().rss
        reporter.over.set()
        reporter.join()
    finally:
        web.terminate()
        web.join()
    took = after[2] - before[2]
    return {
        "answers": crowd.answers / took,
        "backend": (after[0] - before[0]) / took,
        "cpu": 100 * (after[1] - before[1]) / took,
        "rss": full / 1e6,
        "client": (full - empty) / CLIENTS / 1e3,
        "late": 1000 * median(crowd.late),
        "late95": 1000 * quantiles(crowd.late, n=20)[-1],
    }


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> None:
    head = f"{'':<18} {'answers/s':>9} {'backend/s':>9} {'CPU %':>6} {'RSS MB':>7}"
    print(f"{head} {'kB/client':>9} {'late ms':>8} {'95 %':>6}")
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        for name, way in (("told by events", "told"), ("asking", "asking")):
            found = measure(way, server)
            print(
                f"{name:<18} {found['answers']:>9.0f} {found['backend']:>9.1f} {found['cpu']:>6.0f}"
                f" {found['rss']:>7.0f} {found['client']:>9.0f} {found['late']:>8.0f}"
                f" {found['late95']:>6.0f}"
            )


if __name__ == "__main__":
    main()
