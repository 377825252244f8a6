"""What the history says: who ran twice, who was not served, and why."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from msgspec import Struct

#: Calls of tasks with a policy in each kind of call; see `tests.chaos.producer`.
PARTS = {"plain": 1, "group": 3, "chord": 3, "chain": 1, "crowd": 200}

#: Seconds between what a store answers and what a body notes, on a busy machine.
LAG = 1.0


def slack(harm: dict[str, Any]) -> float:
    """Seconds after a harm in which a process may not have noticed that it is over.

    The breaker asks whether the store is back after 0.5 s, 1 s, 2 s, … but no later than 5 s.
    """
    if harm["name"] == "flush":
        return LAG
    return LAG + min(5.0, float(harm["ended"] - harm["began"]))


class Run(Struct):
    key: tuple[str, int]
    id: str
    pid: int
    start: float
    end: float


class Report(Struct):
    calls: int = 0
    refused: int = 0
    runs: int = 0
    duplicates: list[str] = []
    #: What the store's outages and the pauses of workers explain.
    excused: list[str] = []
    unserved: list[str] = []
    longest_wait: float = 0.0
    left_behind: list[str] = []
    #: Calls that were to be answered by a later run, and were not.
    outdated: list[str] = []
    harms: dict[str, int] = {}
    #: The part of the time in which an overlap would have been explained by the store.
    excusable: float = 0.0

    #: By `savings`, and the calls that were made, the parts of canvases among them.
    counted: dict[str, int] = {}
    made: int = 0
    #: Bodies that were entered.
    entered: int = 0

    def holds(self) -> bool:
        wrong = (self.duplicates, self.unserved, self.left_behind, self.outdated)
        return not any(wrong) and self.runs > 0


class History:
    """The history, sorted out."""

    def __init__(self, lines: list[dict[str, Any]], lease: float) -> None:
        self.lease = lease
        self.calls = [line for line in lines if line["event"] == "call"]
        self.harms = [line for line in lines if line["event"] == "harm"]
        self.killed: dict[int, float] = {}
        for harm in self.harms:
            if harm["what"] == "killed":
                self.killed.update(dict.fromkeys(harm["pids"], harm["began"]))
        self.runs = list(self._runs(lines))
        self.lines = lines

    def said(self, text: str) -> list[str]:
        return [str(line) for line in self.lines if text in str(line)]

    def _runs(self, lines: list[dict[str, Any]]) -> Any:
        open_runs: dict[tuple[str, int, int], dict[str, Any]] = {}
        for line in sorted(
            (line for line in lines if line["event"] in ("start", "finish")),
            key=lambda line: line["at"],
        ):
            at = (line["id"], line["pid"], line["key"])
            if line["event"] == "start":
                open_runs[at] = line
            elif at in open_runs:
                yield self._run(open_runs.pop(at), line["at"])
        for line in open_runs.values():
            # It never ended: it died with its process.
            yield self._run(line, self.killed.get(line["pid"], line["at"] + line["seconds"]))

    def _run(self, line: dict[str, Any], end: float) -> Run:
        key = (line["task"], line["key"])
        return Run(key=key, id=line["id"], pid=line["pid"], start=line["at"], end=end)

    def overlaps(self) -> Any:
        """Pairs of runs of one key at the same time."""
        by_key: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in self.runs:
            by_key[run.key].append(run)
        for runs in by_key.values():
            runs.sort(key=lambda run: run.start)
            for number, first in enumerate(runs):
                for second in runs[number + 1 :]:
                    if second.start < first.end:
                        yield first, second

    def excuse(self, first: Run, second: Run) -> str | None:
        """Why the two ran at once, if the store or a pause explains it."""
        for harm in self.harms:
            began, ended = harm["began"], harm["ended"]
            if harm["what"] in ("lost", "away"):
                # What began while the store was away knew of nobody.
                if began <= second.start and ended + slack(harm) >= first.start:
                    return f"the store was {harm['what']} ({harm['name']})"
            elif harm["what"] == "paused":
                stopped = first.pid in harm["pids"] and began <= second.start
                if stopped and ended >= first.start and second.start - began >= self.lease / 2:
                    return "its worker was stopped for longer than its lease"
                # It had begun before it was stopped, and said so afterwards.
                if second.pid in harm["pids"] and began <= second.start <= ended + LAG:
                    return "its worker was stopped as it began"
        return None

    def excusable(self) -> float:
        times = [line["at"] for line in self.calls]
        ticks = [min(times) + (max(times) - min(times)) * n / 1000 for n in range(1000)]
        return sum(map(self.was_away, ticks)) / len(ticks)

    def was_away(self, moment: float) -> bool:
        """Whether the store had lost its data then, or did not answer."""
        stores = [harm for harm in self.harms if harm["what"] in ("lost", "away")]
        return any(harm["began"] <= moment <= harm["ended"] + slack(harm) for harm in stores)

    def is_another(self, call: dict[str, Any], began: float) -> bool:
        """Whether a run that was stopped, and taken for dead, has stored its outcome after all."""
        pids = {run.pid for run in self.runs if run.start == began}
        return any(
            harm["what"] == "paused" and pids & set(harm["pids"]) and harm["began"] <= call["done"]
            for harm in self.harms
        )

    def judge(self, report: Report, answers: dict[str, float]) -> None:
        """Look whether each answer is of a run that began after the call; `answers` say when."""
        for call in self.calls:
            for one in call["ids"]:
                began = answers.get(one, call["at"])
                if began >= call["at"]:
                    continue
                line = f"{one} was called {call['at'] - began:.2f} s after the run began"
                if self.is_another(call, began):
                    report.excused.append(f"{line}, which was stopped for longer than its lease")
                elif self.was_away(began):  # its claim waits, to be joined
                    report.excused.append(f"{line}, of which a store that was away did not know")
                else:
                    report.outdated.append(line)

    def explain_unserved(
        self, task_id: str, received: bool = True, unpublished: bool = False
    ) -> str | None:
        """Why nobody may know that this id waits: Celery lost it, and the store had forgotten.

        `received` tells whether the message lies in the broker, or a worker has logged that it
        received it, and not that it put it back; `unpublished` that it is of a chord whose parts
        have all been counted.
        """
        call = next((call for call in self.calls if task_id in call["ids"]), None)
        if call is None:
            return None
        if call["kind"] == "chord" and unpublished and not received:
            for kill in self.harms:
                if kill["what"] == "killed" and kill["ended"] >= call["at"]:
                    # Celery's child takes the chord for its own, and publishes the body after that;
                    # the part has a result, so its message is not delivered again.
                    return "Celery's chord was lost with the child that was to go on with it"
        if call["kind"] != "plain" and not received:
            for kill in self.harms:
                if kill["name"] == "kill a worker" and kill["ended"] >= call["at"]:
                    # kombu pops a message, and notes after that that it has it: `_brpop_read`.
                    return "no worker has it: popped by one that was killed, kombu lost it"
        early = call["task"] == "chaos.early"
        if not early and received:
            return None
        lost = "acknowledged early" if early else "popped, and not yet noted by kombu"
        for harm in self.harms:
            if harm["what"] in ("lost", "away") and harm["ended"] + slack(harm) >= call["at"]:
                for kill in self.harms:
                    if kill["name"] == "kill a worker" and kill["ended"] >= call["at"]:
                        return (
                            f"{lost}, it was lost with its worker, and the store was "
                            f"{harm['what']} ({harm['name']})"
                        )
        return None

    def made(self) -> int:
        """How many calls of tasks with a policy were made."""
        return sum(PARTS[call["kind"]] for call in self.calls)

    def report(self) -> Report:
        report = Report(calls=len(self.calls), runs=len(self.runs))
        report.refused = sum(1 for call in self.calls if call["error"])
        for harm in self.harms:
            report.harms[harm["name"]] = report.harms.get(harm["name"], 0) + 1
        report.excusable = self.excusable()
        report.entered = sum(line["event"] == "start" for line in self.lines)
        for first, second in self.overlaps():
            line = (
                f"{second.key}: {second.id} ran {first.end - second.start:.2f} s beside {first.id}"
            )
            why = self.excuse(first, second)
            if why is None:
                report.duplicates.append(line)
            else:
                report.excused.append(f"{line}: {why}")
        return report
