"""A store that is used, and then used again in children forked at bad moments: ``forked URL KEY``.

Prints "fine" if parent and children are all served, each over connections of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
import warnings

from jobtastic_ext.claims.records import ClaimCall
from jobtastic_ext.stores import Store, open_store

CHILDREN = 5


def call(name: str) -> ClaimCall:
    return ClaimCall(task_id=name, gen=name, hold=60_000)


def child(store: Store, key: str) -> int:
    answer = store.apply(key, call("child"))
    assert answer.word in ("joined", "overdue"), answer
    assert answer.id == "parent"
    crowd = [threading.Thread(target=store.read, args=(key,)) for _ in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert store.apply(f"{key}-{os.getpid()}", call("child")).word == "claimed"
    store.close()
    return 0


def main(url: str, key: str) -> None:
    # Python warns of a fork beside threads, which is just what is tried here.
    warnings.simplefilter("ignore", DeprecationWarning)
    store = open_store(url, timeout=20)
    assert store.apply(key, call("parent")).word == "claimed"
    done = threading.Event()

    def keep_busy(n: int) -> None:
        count = 0
        while not done.is_set():
            store.apply(f"{key}-{n}-{count % 10}", call(f"busy-{n}-{count}"))
            count += 1

    crowd = [threading.Thread(target=keep_busy, args=(n,)) for n in range(3)]
    for thread in crowd:
        thread.start()
    pids = []
    for _ in range(CHILDREN):
        time.sleep(0.02)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = child(store, key)
            except Exception:  # noqa: BLE001 -- whatever it is, the parent shall see it
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        pids.append(pid)
        assert store.apply(key, call("other")).id == "parent"
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    done.set()
    for thread in crowd:
        thread.join()
    assert codes == [0] * CHILDREN, codes
    assert store.apply(key, call("other")).id == "parent"
    store.close()
    print("fine")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
