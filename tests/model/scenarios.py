"""What is explored: by whom, with which task, and with which faults."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgspec.structs import replace

from .actors import Behaviour
from .world import Budget, Scenario

PLAIN = ()
REFRESH = (("refresh", True),)


def pinned(number: int) -> tuple[tuple[str, str], ...]:
    """Options of a call that names its own id."""
    return (("task_id", f"7{number}303030-2d2d-4d2d-ad2d-2d2d2d2d2d2d"),)


def body(*attempts: str, **policy: object) -> Behaviour:
    return Behaviour(body=attempts or ("value",), policy=tuple(policy.items()))


#: Who calls what, without any fault.
CASTS = {
    "two plain calls": Scenario(callers=(PLAIN, PLAIN), budget=Budget()),
    "three plain calls": Scenario(callers=(PLAIN, PLAIN, PLAIN), budget=Budget()),
    "a plain and a pinned call": Scenario(callers=(PLAIN, pinned(1)), budget=Budget()),
    "a plain and two pinned calls": Scenario(
        callers=(PLAIN, pinned(1), pinned(2)), budget=Budget()
    ),
    "a plain call and a refresh": Scenario(callers=(PLAIN, REFRESH), budget=Budget()),
    "a task that is retried": Scenario(
        callers=(PLAIN, PLAIN), budget=Budget(), behaviour=body("retry", "value")
    ),
    "a task that fails": Scenario(callers=(PLAIN, PLAIN), budget=Budget(), behaviour=body("fail")),
    "a task that is acknowledged late": Scenario(
        callers=(PLAIN, PLAIN), budget=Budget(), acks_late=True
    ),
    "a task whose result is cached": Scenario(
        callers=(PLAIN, PLAIN), budget=Budget(), cached=True, behaviour=body(cache_duration=3600)
    ),
    "a cache that is served while it is refreshed": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        cached=True,
        behaviour=body(cache_duration=5, stale_while_revalidate=3600),
    ),
    "a task that fails at its caller when it cannot be sent": Scenario(
        callers=(PLAIN, PLAIN), budget=Budget(), behaviour=body(on_broker_error="fail")
    ),
    "a task that runs at its caller when it cannot be sent": Scenario(
        callers=(PLAIN, PLAIN), budget=Budget(), behaviour=body(on_broker_error="eager")
    ),
    "the same without a herd": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        acks_late=True,  # with no claim nobody else serves what is lost with its worker
        behaviour=body(on_broker_error="fail", herd_avoidance_timeout=0),
    ),
    "a task that runs once more": Scenario(
        callers=(PLAIN, PLAIN, PLAIN),
        budget=Budget(),
        buffers=True,
        newest=True,
        behaviour=body(on_duplicate="buffer_one", arguments="last"),
    ),
    "a task that runs once more, at its caller when it cannot be sent": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        buffers=True,
        behaviour=body(on_duplicate="buffer_one", on_broker_error="eager"),
    ),
    "a task that is unique until it begins": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        buffers=True,
        starts=True,
        behaviour=body(unique_until="start"),
    ),
    "a task that is retried, and unique until it begins": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        buffers=True,
        starts=True,
        behaviour=body("retry", "value", unique_until="start"),
    ),
    "a named call of a task that is unique until it begins": Scenario(
        callers=(PLAIN, pinned(1)),
        budget=Budget(),
        buffers=True,
        starts=True,
        behaviour=body(unique_until="start"),
    ),
    "a task that starts once in a time": Scenario(
        callers=(PLAIN, pinned(1)),
        budget=Budget(),
        cached=True,
        unique=3_600_000,
        behaviour=body(unique_for="1h"),
    ),
    "a task that is retried, and starts once in a time": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        cached=True,
        starts=True,
        unique=3_600_000,
        behaviour=body("retry", "value", unique_until="start", unique_for="1h"),
    ),
    "a task that fails, and starts once in a time": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        unique=3_600_000,
        behaviour=body("fail", unique_for="1h"),
    ),
    "a task that waits until it is quiet": Scenario(
        callers=(PLAIN, PLAIN, PLAIN),
        budget=Budget(wait=2),
        buffers=True,
        debounce=(1_000, 1_500),
        newest=True,
        behaviour=body(debounce=1, debounce_max=1.5, arguments="last"),
    ),
    "a task that waits until it is quiet, and is retried": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(wait=1),
        buffers=True,
        debounce=(1_000, 1_500),
        newest=True,
        behaviour=body("retry", "value", debounce=1, debounce_max=1.5, arguments="last"),
    ),
    "a named call of a task that waits until it is quiet": Scenario(
        callers=(PLAIN, pinned(1)),
        budget=Budget(wait=1),
        buffers=True,
        behaviour=body(debounce=1),
    ),
    "a refresh of a task that waits until it is quiet": Scenario(
        callers=(PLAIN, REFRESH),
        budget=Budget(wait=1),
        buffers=True,
        behaviour=body(debounce=1),
    ),
    "a task that takes turns": Scenario(
        callers=(PLAIN, PLAIN),
        budget=Budget(),
        exclusive=True,
        behaviour=body(on_duplicate="serialize"),
    ),
}

#: What is told apart only by a store that sees results: casts, and faults in them.
SEEN = (
    ("two plain calls", ()),
    ("two plain calls", ("crash", "lapse")),
    ("two plain calls", ("wait", "publish")),
    ("a plain and a pinned call", ("crash",)),
    ("a plain call and a refresh", ()),
    ("a task that is retried", ("crash",)),
    ("a task that fails", ("crash",)),
    ("a task whose result is cached", ("lapse",)),
)

#: Two faults together that are worth the time of every test run.
PAIRS = (
    ("crash", "lapse"),
    ("crash", "wait"),
    ("crash", "publish"),
    ("crash", "store"),
    ("wait", "publish"),
    ("lapse", "publish"),
    ("lapse", "store"),
    ("expire", "wait"),
    ("forget", "crash"),
    ("purge", "wait"),
    ("foreign", "wait"),
    ("unknown", "wait"),
)


#: With every fault these take minutes.
LARGE = {"a task that is retried, and unique until it begins": ("crash", "lapse", "wait", "purge")}


def with_faults(scenario: Scenario, *faults: str) -> Scenario:
    budget = scenario.budget
    for name in faults:
        budget = replace(budget, **{name: getattr(budget, name) + 1})
    return replace(scenario, budget=budget)


def casts() -> Iterator[tuple[str, Scenario]]:
    """All of them; where three call and time has to pass, once with less of each."""
    for name, cast in CASTS.items():
        if len(cast.callers) < 3 or not cast.budget.wait:
            yield name, cast
        else:
            yield f"{name}, but for a caller", replace(cast, callers=cast.callers[1:])
            yield f"{name}, but for a while", replace(cast, budget=Budget(wait=1))


def small() -> Iterator[tuple[str, Scenario]]:
    """The bounds of every test run: each fault in each cast of two callers, and pairs of faults.

    With three callers a fault takes minutes: `large` has it.
    """
    for name, cast in casts():
        yield name, cast
        if len(cast.callers) < 3 and not cast.budget.wait:
            for fault in LARGE.get(name, Budget.__struct_fields__):
                yield f"{name}, {fault}", with_faults(cast, fault)
    for pair in PAIRS:
        yield f"two plain calls, {', '.join(pair)}", with_faults(CASTS["two plain calls"], *pair)
    for name, faults in SEEN:
        yield (
            ", ".join((name, *faults, "seen")),
            replace(with_faults(CASTS[name], *faults), sees=True),
        )


def timed() -> Iterator[tuple[str, Scenario]]:
    """Each fault where time has to pass: of these a test run sees only what is reached soon."""
    for name, cast in CASTS.items():
        if len(cast.callers) < 3 and cast.budget.wait:
            for fault in Budget.__struct_fields__:
                yield f"{name}, {fault}", with_faults(cast, fault)


def large(faults: int = 2) -> Iterator[tuple[str, Scenario]]:
    """Every cast with every combination of so many faults."""
    names = Budget.__struct_fields__
    for name, cast in casts():
        for chosen in itertools.combinations_with_replacement(names, faults):
            scenario = with_faults(cast, *chosen)
            yield f"{name}, {', '.join(chosen)}", scenario
            yield f"{name}, {', '.join(chosen)}, seen", replace(scenario, sees=True)
