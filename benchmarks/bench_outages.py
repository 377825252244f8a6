"""What it costs to bound a publish, and how long a caller waits when servers are down.

    python -m benchmarks.bench_outages

The first table pairs ways to publish with a bare `apply_async`, as `bench_calls` does.  The second
drives real calls through a proxy that refuses, stays silent, or answers after five seconds.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from statistics import median
from typing import Any

from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.resilience.deadline import within
from jobtastic_ext.runtime import close_runtime, publish
from jobtastic_ext.testing.server import EmbeddedServer, server_binary

from .bench_calls import Way, compare, make_app

POLICY = {"tasks": {"bench.eager": {"on_broker_error": "eager"}}}
KINDS = ("refused", "silent", "slow")
DOWN = ("broker", "backend", "store", "broker backend", "broker backend store")


def ways(server: EmbeddedServer) -> dict[str, tuple[Way, str]]:
    """Name each way to publish, with the name of what it is held against."""
    app, numbers = make_app(server, step=True), count()
    other = app.tasks["bench.other"]
    bare = "bare apply_async"
    pool = ThreadPoolExecutor(1)
    return {
        bare: (lambda: publish(other, (next(numbers),)), bare),
        "a thread for each": (
            lambda: within(1.0, lambda: publish(other, (next(numbers),)), lambda _: None),
            bare,
        ),
        "one thread for all": (
            lambda: pool.submit(publish, other, (next(numbers),)).result(1.0),
            bare,
        ),
        "own connections": (lambda: other.delay_or_fail(next(numbers)), bare),
    }


def make_caller(urls: dict[str, str]) -> Celery:
    app = Celery("bench-outages", set_as_current=False)
    app.conf.update(
        broker_url=urls["broker"],
        result_backend=urls["backend"],
        jobtastic_store=urls["store"],
        jobtastic_policy=POLICY,
    )
    app.steps["worker"].add(JobtasticStep)

    @app.task(name="bench.eager", shared=False)
    def eager(x: Any) -> Any:
        return x

    return app


def upset(proxy: Any, kind: str) -> None:
    if kind == "slow":
        proxy.be_slow(5)
    else:
        (proxy.refuse if kind == "refused" else proxy.be_silent)()


def outage(server: EmbeddedServer, down: str, kind: str) -> tuple[float, float]:
    """Return the seconds of the first call, and the median of the next hundred."""
    from tests.servers import Proxy

    names = ("broker", "backend", "store")
    proxies = {name: Proxy(server.port) for name in names}
    for proxy in proxies.values():
        proxy.open()
    app = make_caller({name: proxies[name].url(n) for n, name in enumerate(names)})
    try:
        task = app.tasks["bench.eager"]
        task.delay("warm")
        for name in down.split():
            upset(proxies[name], kind)
        times = []
        for n in range(101):
            began = time.perf_counter()
            task.delay(f"{down}-{kind}-{n}")
            times.append(time.perf_counter() - began)
    finally:
        close_runtime(app)
        app.close()
        for proxy in proxies.values():
            proxy.__exit__()
    return times[0], median(times[1:])


def main() -> None:
    """Print both tables."""
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        compare(ways(server))
        print(f"\n{'down':<22} {'kind':<8} first call    median of the next 100")
        for down in DOWN:
            for kind in KINDS:
                first, later = outage(server, down, kind)
                print(f"{down:<22} {kind:<8} {first * 1000:7.0f} ms    {later * 1000:6.2f} ms")


if __name__ == "__main__":
    main()
