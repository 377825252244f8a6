"""Many threads of one process that call one key at one moment: ``herd URL KEY THREADS START``.

Prints a JSON list with ``[word, id, seconds it took]`` for each thread; for an error its name.
START is a moment on the machine's clock, so that several processes begin together.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid

from jobtastic_ext.claims.records import ClaimCall
from jobtastic_ext.errors import StoreError
from jobtastic_ext.stores import Store, open_store


def call(store: Store, key: str, start: float, told: list[tuple[str, str, float]]) -> None:
    name = uuid.uuid4().hex
    time.sleep(max(0.0, start - time.time()))
    began = time.monotonic()
    try:
        answer = store.apply(key, ClaimCall(task_id=name, gen=name, hold=60_000))
        told.append((answer.word, answer.id, time.monotonic() - began))
    except StoreError as error:
        told.append((type(error).__name__, str(error), time.monotonic() - began))


def main(url: str, key: str, threads: int, start: float) -> None:
    store = open_store(url, timeout=0.5)
    told: list[tuple[str, str, float]] = []
    crowd = [threading.Thread(target=call, args=(store, key, start, told)) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    store.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
