"""``python -m tests.chaos --seconds 120 --seed 1``: harm everything, and see what the callers get.

One third of the time each for a store alone behind a proxy, a store under Sentinel and a cluster
of 3+3, or ``--store`` for one of them.  Exit code 0 only if nobody ran twice while a lease was
alive (but for the windows that are listed), every caller was served, by a run that began after the
call where a policy says so, and no claim was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

import msgspec

from jobtastic_ext.claims.records import Claim
from jobtastic_ext.counts.tally import PAUSE
from jobtastic_ext.counts.words import DECISIONS, WORDS
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from tests.workers import ROOT

from . import check
from .app import LATER, NAMES, create
from .nemesis import Nemesis
from .producer import seconds_of
from .stores import VICTIMS, Victim

#: In seconds.
LEASE, HERD, VISIBILITY = 3, 10, 8

PRODUCERS, RATE = 2, 4.0


def settings(server: EmbeddedServer, history: EmbeddedServer, store: str) -> dict[str, Any]:
    policy = {"herd_avoidance_timeout": HERD, "significant_kwargs": ["key"]}
    return {
        "broker_url": server.url(0),
        "result_backend": server.url(1),
        # A worker that is killed as it restores messages holds kombu's mutex for so long.
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY,
            "unacked_mutex_expire": VISIBILITY,
            # At each tenth of these times a worker looks for what has to come again.
            "unacked_restore_interval": 0.5,
        },
        "broker_connection_retry_on_startup": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "result_chord_retry_interval": 0.2,
        "jobtastic_policy": {
            "tasks": {
                **dict.fromkeys(NAMES, policy),
                "chaos.again": {**policy, "on_duplicate": "buffer_one"},
                "chaos.quiet": {**policy, "debounce": 0.5, "debounce_max": 2},
            }
        },
        "jobtastic_store": store,
        "jobtastic_lease": LEASE,
        "history_url": history.url(0),
    }


class Chaos:
    """One store, harmed for a while."""

    def __init__(self, store: str, seconds: float, seed: str, spares: Collection[str] = ()) -> None:
        self.store, self.seconds, self.seed, self.spares = store, seconds, seed, spares
        #: Calls that `serve` has made.
        self.last = 0

    def run(self) -> check.Report:
        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedServer())
            history = stack.enter_context(EmbeddedServer())
            victim = stack.enter_context(VICTIMS[self.store]())
            self.conf = settings(server, history, victim.url)
            self.app = create(self.conf)
            stack.callback(close_runtime, self.app)
            stack.callback(self.app.history.close)
            nemesis = Nemesis(self.conf, victim, self.app.history, self.seed, LEASE, self.spares)
            nemesis.app = self.app
            stack.callback(nemesis.close)
            nemesis.start_workers()
            self.harm(nemesis, stack)
            unserved = self.serve()
            found = check.History(self.app.history.read(), LEASE)
            report = found.report()
            for task_id, kind in unserved.items():
                lies = self.places(task_id)
                has_come = is_in_hand(nemesis.said(task_id)) or bool(lies)
                why = found.explain_unserved(task_id, has_come, self.is_stuck(task_id, found))
                line = f"{kind} call {task_id} is not served"
                if why is None:
                    known = self.app.backend.get_task_meta(task_id)
                    said = [*nemesis.said(task_id), *found.said(task_id), str(known), *lies]
                    report.unserved.append("\n      ".join([line, *said]))
                else:
                    report.excused.append(f"{line}: {why}")
            found.judge(report, self.answers(found))
            report.longest_wait = self.longest_wait(found)
            report.left_behind = self.left_behind(victim)
            report.counted = self.counted()
            report.made = found.made() + self.last
            return report

    def harm(self, nemesis: Nemesis, stack: ExitStack) -> None:
        until = time.time() + self.seconds
        environ = {**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(self.conf)}
        producers = []
        for number in range(PRODUCERS):
            log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
            seed = f"{self.seed}-{number}"
            command = [sys.executable, "-W", "ignore", "-m", "tests.chaos.producer"]
            process = subprocess.Popen(
                [*command, seed, str(RATE), str(until)],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            producers.append(process)
        nemesis.start()
        for process in producers:
            # A call may wait for the broker's own retries.
            assert process.wait(self.seconds + 60) == 0, "a producer failed"
        nemesis.heal()

    def serve(self) -> dict[str, str]:
        """One more identical call for everybody who waits yet; return who is left unserved."""
        calls = [line for line in self.app.history.read() if line["event"] == "call"]
        kinds = {one: call["kind"] for call in calls for one in call["ids"]}
        ids = set(kinds)
        # What was queued may be lost: its claim ends, and redelivery comes, in that time.
        wait(lambda: not self.pending(ids), HERD + 4 * VISIBILITY)
        pending = self.pending(ids)
        again = {(call["task"], call["key"]) for call in calls if pending & set(call["ids"])}
        for task, key in again:
            result = self.app.tasks[task].delay(key, seconds=seconds_of(key))
            ids.add(result.id)
            kinds[result.id] = "last"
            self.last += 1
        wait(lambda: not self.pending(ids), 40)
        return {one: kinds[one] for one in self.pending(ids)}

    def places(self, task_id: str) -> list[str]:
        """Where in the broker a message of that task lies."""
        with self.app.connection_for_read() as connection:
            client = connection.default_channel.client
            found = []
            for key in client.scan_iter():
                kind = client.type(key)
                if kind == b"list":
                    held = client.lrange(key, 0, -1)
                else:
                    held = client.hvals(key) if kind == b"hash" else []
                if any(task_id.encode() in one for one in held):
                    found.append(f"it lies in {key.decode()}")
            return found

    def is_stuck(self, task_id: str, found: check.History) -> bool:
        """Whether Celery has counted every part of a chord, and keeps them for its body."""
        parts = next(
            (set(call["ids"][1:]) for call in found.calls if call["ids"][:1] == [task_id]), set()
        )
        client = self.app.backend.client
        counted = [
            client.smembers(key) for key in client.scan_iter(match="celery-taskset-meta-*.d")
        ]
        ids = [{member.decode().partition(":")[0] for member in members} for members in counted]
        return bool(parts) and parts in ids

    def pending(self, ids: set[str]) -> set[str]:
        return {one for one in ids if not self.app.AsyncResult(one).ready()}

    def answers(self, found: check.History) -> dict[str, float]:
        """When the run began that has answered a call, where that has to be after it."""
        ids = [one for call in found.calls if call["task"] in LATER for one in call["ids"]]
        results = {one: self.app.AsyncResult(one) for one in ids}
        return {one: result.result for one, result in results.items() if result.successful()}

    def longest_wait(self, found: check.History) -> float:
        """Seconds from a plain call to its answer, beyond the run's own time."""
        longest = 0.0
        for call in found.calls:
            if call["kind"] != "plain" or not call["ids"]:
                continue
            done = self.app.AsyncResult(call["ids"][0]).date_done
            if isinstance(done, str):
                done = datetime.fromisoformat(done)
            if done is not None:
                done = done if done.tzinfo else done.replace(tzinfo=timezone.utc)
                waited = done.timestamp() - call["at"] - seconds_of(call["key"])
                longest = max(longest, waited)
        return longest

    def counted(self) -> dict[str, int]:
        """What `savings` tells, once every process has had the time to say what it counted."""
        runtime = runtime_of(self.app)
        assert runtime is not None
        seen: list[dict[str, int]] = [{}]

        def settled() -> bool:
            told = runtime.desk.counts()
            seen.append({word: sum(one[word] for one in told.values()) for word in WORDS})
            return seen[-1] == seen[-2]

        time.sleep(2 * PAUSE)
        wait(settled, 30)
        return seen[-1]

    def left_behind(self, victim: Victim) -> list[str]:
        """Claims that somebody seems to hold, though nobody runs or waits any more."""

        def held() -> list[str]:
            now = time.time() * 1000
            claims = {
                key: msgspec.json.decode(raw, type=Claim)
                for key, raw in victim.keys().items()
                if raw.startswith(b"{")
            }
            return [
                f"{key}: {claim.holder}"
                for key, claim in claims.items()
                if claim.holder is not None and claim.holder.until > now
            ]

        wait(lambda: not held(), HERD + 2)
        return held()


def is_in_hand(said: list[str]) -> bool:
    """Whether the worker that received a message last has not put it back where it waits."""
    received = sum(" received" in line for line in said)
    return received > sum(" waits: " in line for line in said)


def wait(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.3)


def show(store: str, seed: str, report: check.Report) -> None:
    print(f"\n{store}, seed {seed}: {'held' if report.holds() else 'FAILED'}")
    harms = ", ".join(f"{count} {name}" for name, count in sorted(report.harms.items()))
    print(f"  harm                                   {harms}")
    print(
        f"  calls                                  {report.calls} ({report.refused} got an error)"
    )
    print(f"  runs                                   {report.runs}")
    print(f"  duplicate runs beside a live lease     {len(report.duplicates)}")
    print(f"  explained by the windows below         {len(report.excused)}")
    print(f"  windows of the store, part of the time {report.excusable:.0%}")
    print(f"  callers unserved                       {len(report.unserved)}")
    print(f"  answered by an older run               {len(report.outdated)}")
    print(f"  longest wait beyond the run            {report.longest_wait:.1f} s")
    calls = sum(report.counted.get(word, 0) for word in DECISIONS)
    print(
        f"  counted                                {calls} of {report.made} calls, "
        f"{report.counted.get('ran')} of {report.entered} runs"
    )
    print(f"  claims left behind                     {len(report.left_behind)}")
    for line in (*report.duplicates, *report.unserved, *report.left_behind, *report.outdated):
        print(f"    {line}")
    for line in report.excused:
        print(f"    (explained) {line}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--store", choices=("all", *VICTIMS), default="all")
    options = parser.parse_args()
    stores = list(VICTIMS) if options.store == "all" else [options.store]
    held = True
    for store in stores:
        report = Chaos(store, options.seconds / len(stores), options.seed).run()
        show(store, options.seed, report)
        held = held and report.holds()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
