"""Threads of many processes that call one key at one moment: ``herd URL KEY PROCESSES THREADS``.

Prints a JSON list with ``[word, id, seconds it took]`` for each thread; for an error its name.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sys
import threading
import time
import uuid

from jobtastic_ext.claims.records import ClaimCall
from jobtastic_ext.errors import StoreError
from jobtastic_ext.stores import Store, open_store

#: Who waits for how long is not what is asked here, and depends on the machine.
PATIENCE = 20.0


def call(store: Store, key: str, start: float, told: list[tuple[str, str, float]]) -> None:
    name = uuid.uuid4().hex
    time.sleep(max(0.0, start - time.time()))
    began = time.monotonic()
    try:
        answer = store.apply(key, ClaimCall(task_id=name, gen=name, hold=60_000))
        told.append((answer.word, answer.id, time.monotonic() - began))
    except StoreError as error:
        told.append((type(error).__name__, str(error), time.monotonic() - began))


def crowd(url: str, key: str, threads: int, start: float) -> list[tuple[str, str, float]]:
    store = open_store(url, timeout=PATIENCE)
    told: list[tuple[str, str, float]] = []
    callers = [
        threading.Thread(target=call, args=(store, key, start, told)) for _ in range(threads)
    ]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    store.close()
    return told


def main(url: str, key: str, processes: int, threads: int) -> None:
    # A driver that is imported now is imported once.
    open_store(url).close()
    start = time.time() + 1
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        told = pool.starmap(crowd, [(url, key, threads, start)] * processes, chunksize=1)
    print(json.dumps([*itertools.chain.from_iterable(told)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
