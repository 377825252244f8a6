"""Many callers at once, in many processes: `python -m tests.integration.herd`.

Reads one JSON line with the settings, the number of processes, and that of their threads; at each
line that follows, all threads call the same task together, and it prints what they got.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from celery.result import AsyncResult

from tests.forking import DATABASE, import_before
from tests.reports import create


def call(app: Any, barrier: threading.Barrier, order: dict[str, Any]) -> AsyncResult:
    barrier.wait(60)
    result: AsyncResult = app.tasks[order["task"]].apply_async(order["args"])
    if order["wait"] == "together":
        result.get(timeout=60)
    return result


def process(pipe: Connection, conf: dict[str, Any], threads: int) -> None:
    app = create(conf)
    barrier = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as pool:
        pipe.send("ready")
        while order := pipe.recv():
            calls = [pool.submit(call, app, barrier, order) for _ in range(threads)]
            results = [future.result() for future in calls]
            waits = order["wait"] != "no"
            pipe.send([(each.id, each.get(timeout=60) if waits else None) for each in results])


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    if "db+" in setup["conf"]["result_backend"]:
        import_before(DATABASE)
    forking = multiprocessing.get_context("fork")
    pipes = []
    for _ in range(setup["processes"]):
        ours, theirs = forking.Pipe()
        arguments = (theirs, setup["conf"], setup["threads"])
        forking.Process(target=process, args=arguments, daemon=True).start()
        theirs.close()
        pipes.append(ours)
    print(*{pipe.recv() for pipe in pipes}, flush=True)
    for line in sys.stdin:
        for pipe in pipes:
            pipe.send(json.loads(line))
        print(json.dumps([got for pipe in pipes for got in pipe.recv()]), flush=True)


if __name__ == "__main__":
    main()
