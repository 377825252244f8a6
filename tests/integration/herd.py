"""Many callers at once, in processes of their own: `python -m tests.integration.herd`.

Reads one JSON line with the settings, the number of threads and the rounds; at each line that
follows, its threads call the same task together, and it prints what they got.
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.reports import create


def call(app: Any, barrier: threading.Barrier, order: dict[str, Any]) -> tuple[str, Any]:
    barrier.wait(60)
    result = app.tasks[order["task"]].delay(*order["args"])
    return result.id, result.get(timeout=60) if order.get("wait", True) else None


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    app = create(setup["conf"])
    barrier = threading.Barrier(setup["threads"])
    with ThreadPoolExecutor(setup["threads"]) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            calls = [pool.submit(call, app, barrier, order) for _ in range(setup["threads"])]
            print(json.dumps([future.result() for future in calls]), flush=True)


if __name__ == "__main__":
    main()
