"""Many callers at once, in processes of their own: `python -m tests.integration.herd`.

Reads one JSON line with the settings and the number of threads; at each line that follows, its
threads call the same task together, and it prints what they got.
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.result import AsyncResult

from tests.reports import create


def call(app: Any, barrier: threading.Barrier, order: dict[str, Any]) -> AsyncResult:
    barrier.wait(60)
    result: AsyncResult = app.tasks[order["task"]].apply_async(order["args"])
    if order["wait"] == "together":
        result.get(timeout=60)
    return result


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    app = create(setup["conf"])
    barrier = threading.Barrier(setup["threads"])
    with ThreadPoolExecutor(setup["threads"]) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            calls = [pool.submit(call, app, barrier, order) for _ in range(setup["threads"])]
            results = [future.result() for future in calls]
            waits = order["wait"] != "no"
            got = [(each.id, each.get(timeout=60) if waits else None) for each in results]
            print(json.dumps(got), flush=True)


if __name__ == "__main__":
    main()
