"""What it costs that messages wait: for a run that goes on, and in the line of a serialized key.

    python -m benchmarks.bench_waiting --waiting 1000 10000 --beside main~1

With `--beside REVISION` the same is measured with the package of that commit, in the same run.
`--broker rabbitmq` waits in RabbitMQ; claims and results are in Redis in any case.  A worker of two
serves; a task of one second and more is followed by so many identical messages with ids of their
own.  `--line` is how many runs of `--seconds` each the serialized key is given.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis
from celery import Celery

from jobtastic_ext import JobtasticStep

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
POLICY = {
    "tasks": {
        "bench.held": {"significant_kwargs": ["key"], "herd_avoidance_timeout": "10m"},
        "bench.turn": {"significant_kwargs": ["key"], "on_duplicate": "serialize"},
    }
}


def create(conf: dict[str, Any]) -> Celery:
    app = Celery("bench", set_as_current=False)
    app.conf.update(conf)
    app.steps["worker"].add(JobtasticStep)
    notes = redis.Redis.from_url(conf["notes_url"])

    @app.task(name="bench.held", shared=False)
    def held(key: str) -> None:
        while not notes.exists(key):
            time.sleep(0.01)

    def work(key: str, seconds: float) -> None:
        began = time.time()
        time.sleep(seconds)
        notes.rpush(key, json.dumps([began, time.time()]))

    app.task(name="bench.turn", shared=False)(work)

    @app.task(name="bench.bare", shared=False)
    def bare(key: str, seconds: float) -> None:
        work(key, seconds)

    @app.task(name="bench.other", shared=False)
    def other() -> None:
        """What has nothing to do with all that."""

    return app


class Side:
    """The package of one commit: an app, its servers and its worker."""

    def __init__(self, conf: dict[str, Any], servers: list[redis.Redis], worker: Any) -> None:
        self.app, self.servers = create(conf), servers
        self.notes = redis.Redis.from_url(conf["notes_url"])
        self.results = redis.Redis.from_url(conf["result_backend"])
        self.worker = psutil.Process(worker.pid)
        self.app.tasks["bench.other"].delay().get(timeout=60)

    def latency(self, count: int = 60) -> float:
        """p95 of the seconds from a call to its result, of a task that does nothing."""
        taken = []
        for _ in range(count):
            began = time.monotonic()
            self.app.tasks["bench.other"].delay().get(timeout=120)
            taken.append(time.monotonic() - began)
            time.sleep(random.uniform(0.01, 0.05))
        return statistics.quantiles(taken, n=20)[-1]

    def commands(self, seconds: float) -> float:
        """Commands a second, at broker and store, while nobody calls."""
        before = sum(self.counted(server) for server in self.servers)
        time.sleep(seconds)
        return (sum(self.counted(server) for server in self.servers) - before) / seconds

    def counted(self, server: redis.Redis) -> int:
        """How many commands clients have sent; what scripts do inside is no traffic."""
        seen = server.info("commandstats")
        names = ("eval", "evalsha", "lpush", "brpop", "get", "zadd", "hset", "publish", "multi")
        return sum(int(seen.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in names)

    def memory(self) -> int:
        """Of the main process, which is where messages that wait could be held.

        Celery leaves 100 kB of garbage in a child for each message that is put off, as for each
        failure, which Python collects after some hundred.
        """
        return int(self.worker.memory_full_info().pss)

    def follow(self, count: int) -> tuple[str, list[str]]:
        key, ids = uuid.uuid4().hex, [str(uuid.uuid4()) for _ in range(count)]
        held = self.app.tasks["bench.held"]
        held.delay(key)
        for one in ids:
            held.apply_async((key,), task_id=one)
        return key, ids

    def served(self, key: str, ids: list[str]) -> float:
        """Let the run end; return in how many seconds the last of those who wait has its result."""
        self.notes.set(key, 1)
        began = time.monotonic()
        missing = ids
        while missing and time.monotonic() - began < 300:
            found = self.results.mget([f"celery-task-meta-{one}" for one in missing])
            missing = [one for one, raw in zip(missing, found, strict=True) if raw is None]
            time.sleep(0.02)
        return time.monotonic() - began if not missing else float("inf")

    def line(self, name: str, count: int, seconds: float) -> tuple[float, float]:
        """Return p95 of the pauses between two runs of a key, and how long all of them took."""
        key, task = uuid.uuid4().hex, self.app.tasks[f"bench.{name}"]
        for result in [task.delay(key, seconds) for _ in range(count)]:
            result.get(timeout=300)
        runs = sorted(json.loads(raw) for raw in self.notes.lrange(key, 0, -1))
        pauses = [after[0] - before[1] for before, after in itertools.pairwise(runs)]
        return statistics.quantiles(pauses, n=20)[-1], runs[-1][1] - runs[0][0]


@contextmanager
def redis_server() -> Iterator[redis.Redis]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp()
    command = [shutil.which("redis-server") or "valkey-server", "--port", str(port)]
    command += ["--save", "", "--bind", "127.0.0.1", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    try:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        yield client
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextmanager
def worker_of(conf: dict[str, Any], slots: int, queue: str) -> Iterator[Any]:
    environ = {**os.environ, "BENCH_WAITING": json.dumps(conf), "C_FORCE_ROOT": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "bench_waiting", "worker"]
    command += ["-c", str(slots), "-l", "WARNING", "-Q", queue, "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat", "-n", f"{queue}@bench"]
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        command, env=environ, stdout=log, stderr=log, cwd=HERE.parent, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if "BENCH_LOG" in os.environ:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))


def measure(options: argparse.Namespace) -> None:
    """Print the figures of the package that is imported here."""
    with ExitStack() as stack:
        broker, other = (stack.enter_context(redis_server()) for _ in range(2))
        ports = [client.connection_pool.connection_kwargs["port"] for client in (broker, other)]
        conf = {
            "broker_url": f"redis://127.0.0.1:{ports[0]}/0",
            "result_backend": f"redis://127.0.0.1:{ports[1]}/1",
            "jobtastic_store": f"redis://127.0.0.1:{ports[1]}/2",
            "notes_url": f"redis://127.0.0.1:{ports[0]}/9",
            "jobtastic_policy": POLICY,
            "jobtastic_key_prefix": "bench",
            "task_default_queue": "two",
            "task_routes": {"bench.bare": "one"},
            "worker_send_task_events": False,
        }
        if options.broker == "rabbitmq":
            sys.path.insert(0, str(ROOT))
            from tests.rabbitmq import RabbitMQServer

            conf["broker_url"] = stack.enter_context(RabbitMQServer()).url
        process = stack.enter_context(worker_of(conf, 2, "two"))
        side = Side(conf, [broker, other], process)
        figures(side, options)
        if options.line:
            stack.enter_context(worker_of(conf, 1, "one"))
            show(side, options)


def figures(side: Side, options: argparse.Namespace) -> None:
    side.served(*side.follow(200))  # warm
    idle = side.latency()
    tell("another task, idle", f"p95 {idle * 1000:.1f} ms")
    for count in options.waiting:
        before = side.memory()
        key, ids = side.follow(count)
        side.app.tasks["bench.other"].delay().get(timeout=600)  # behind all of them
        time.sleep(1)
        name = f"while {count:,} wait"
        tell(f"{name}: commands a second", f"{side.commands(options.watch):.1f}")
        each = (side.memory() - before) / count / 1000
        tell(f"{name}: memory for each, main process", f"{each:.2f} kB")
        late = side.latency(options.probes)
        tell(f"{name}: another task", f"p95 {late * 1000:.1f} ms (+{(late - idle) * 1000:.1f})")
        tell(f"{name}: end to last served", f"{side.served(key, ids):.2f} s")


def show(side: Side, options: argparse.Namespace) -> None:
    pause, taken = side.line("turn", options.line, options.seconds)
    _, bare = side.line("bare", options.line, options.seconds)
    tell(f"line of {options.line}: end to next begins", f"p95 {pause * 1000:.1f} ms")
    tell(f"line of {options.line}: throughput", f"{bare / taken:.0%} of bare on a worker of one")


def tell(what: str, figure: str) -> None:
    print(f"  {what:<54} {figure}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print the figures of this package, and of that of another commit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_waiting", description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="*", default=[300])
    parser.add_argument("--line", type=int, default=30, help="runs of the serialized key")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of each of them")
    parser.add_argument("--watch", type=float, default=4.0, help="seconds to count commands for")
    parser.add_argument("--probes", type=int, default=60, help="calls of another task")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--beside", help="a commit whose package is measured as well")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        measure(options)
        return
    given = arguments if arguments is not None else sys.argv[1:]
    for revision in [options.beside, None] if options.beside else [None]:
        with tempfile.TemporaryDirectory() as folder:
            tree = ROOT
            if revision:
                tree = Path(folder)
                archive = subprocess.run(
                    ["git", "archive", revision], cwd=ROOT, capture_output=True, check=True
                )
                subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
            print(f"{revision or 'this tree'}, {options.broker}", flush=True)
            environ = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{HERE.parent}"}
            subprocess.run([sys.executable, str(HERE), "--one", *given], env=environ, check=True)


def end_with(parent: int) -> None:
    """End this process, and what it has started, when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


if "BENCH_WAITING" in os.environ:
    app = create(json.loads(os.environ["BENCH_WAITING"]))

if __name__ == "__main__":
    main()
