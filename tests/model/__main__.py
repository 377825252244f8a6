"""``python -m tests.model``: explore larger bounds than the tests do.

``--faults 2`` explores every cast with every pair of faults, ``--faults 1`` with each alone;
``--only TEXT`` those scenarios whose name has the text, ``--part 3/40`` one fortieth, drawn from
all casts and faults alike.  It ends with the number of worlds seen, and with exit code 1 and a
short trace for each scenario in which an invariant does not hold.
"""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import multiprocessing
import random
import sys

from .actors import ACTORS
from .explore import Explorer, Found, Report
from .scenarios import large
from .world import Scenario

#: What actors do next is kept from one scenario to the next, up to so many steps.
STEPS = 300_000


def explore(case: tuple[str, Scenario], seconds: float | None) -> tuple[str, Report | str]:
    """Explore one scenario, in a process of its own."""
    gc.disable()  # it would go through millions of worlds, all of them in use
    logging.getLogger("jobtastic_ext").disabled = True
    if len(ACTORS.steps) > STEPS:
        ACTORS.forget()
    name, scenario = case
    try:
        return name, Explorer(scenario).explore(seconds=seconds)
    except Found as found:
        return name, str(found)


def size(scenario: Scenario) -> int:
    """Roughly how many can move, and how often time may pass."""
    budget = scenario.budget
    return len(scenario.callers) + budget.wait + budget.lapse + budget.look


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--faults", type=int, default=1, help="faults in one history (default 1)")
    parser.add_argument("--only", default="", help="scenarios whose name has this text")
    parser.add_argument("--part", default="1/1", help="which of how many parts (default 1/1)")
    parser.add_argument("--seconds", type=float, help="longest time for one scenario")
    parser.add_argument("--processes", type=int, help="so many at once (default: all processors)")
    options = parser.parse_args()
    worlds, moves, bad, cut = 0, 0, 0, 0
    first, step = map(int, options.part.split("/"))
    chosen = [case for case in large(options.faults) if options.only in case[0]]
    if step > 1:
        random.Random(0).shuffle(chosen)  # as made, each fortieth has the same faults
    # What takes longest comes first, lest one processor is left with it.
    chosen = sorted(chosen[first - 1 :: step], key=lambda case: -size(case[1]))
    one = functools.partial(explore, seconds=options.seconds)
    # A process is replaced now and then: what it has freed is not given back.
    with multiprocessing.Pool(options.processes, maxtasksperchild=50) as pool:
        for name, report in pool.imap_unordered(one, chosen):
            if isinstance(report, str):
                bad += 1
                print(f"VIOLATED  {name}: {report}", flush=True)
                continue
            worlds, moves = worlds + report.worlds, moves + report.moves
            cut += not report.complete
            word = "complete" if report.complete else "cut off "
            print(f"{word}  {report.worlds:9,} worlds {report.seconds:7.1f} s  {name}", flush=True)
    print(f"{worlds:,} worlds, {moves:,} moves, {bad} scenarios violated, {cut} cut off")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
