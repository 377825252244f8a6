"""Where in the code the memory comes from that a run has not given back, by `tracemalloc`."""

from __future__ import annotations

import gc
import sysconfig
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

#: Frames kept of each allocation: deep enough to reach the task's code below a library's.
DEPTH = 12

#: Sites that are kept for one task.
KEPT = 200

#: MB.  Less than this in one run is no finding.
LEAST = 0.01

_LIBRARY = tuple({sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib")})
_PACKAGES = tuple({sysconfig.get_path(name) + "/" for name in ("purelib", "platlib")})
_MACHINERY = (
    str(Path(__file__).parent.parent) + "/",
    *(
        f"{folder}{name}/"
        for folder in _PACKAGES
        for name in ("celery", "kombu", "billiard", "vine", "amqp", "redis", "gevent")
    ),
)


class Site(Struct):
    """A place that allocated memory which is still held."""

    #: ``file:line`` in the project's own code if any of it took part, and where it led to.
    place: str
    mb: float
    blocks: int


def start_tracing() -> bool:
    """Begin to trace allocations; False if somebody else in this process does already."""
    if tracemalloc.is_tracing():
        return False
    tracemalloc.start(DEPTH)
    return True


def stop_tracing() -> list[Site]:
    """End it, and return what was allocated since and is still held, the largest first."""
    if gc.isenabled():
        gc.collect()  # what only waits for the collector is not held
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    found: dict[str, Site] = {}
    for trace in snapshot.traces:
        place = place_of([(frame.filename, frame.lineno) for frame in trace.traceback])
        if place is not None:
            site = found.setdefault(place, Site(place, 0.0, 0))
            site.mb += trace.size / 1e6
            site.blocks += 1
    return top_sites(found.values(), KEPT)


def tracing_mb() -> float:
    """Return the memory that tracing itself takes now."""
    return tracemalloc.get_tracemalloc_memory() / 1e6


def place_of(frames: list[tuple[str, int]]) -> str | None:
    """Name an allocation by its frames, the innermost last; None for that of Celery itself."""
    inner = frames[-1]
    if is_machinery(inner[0]) or all(is_machinery(file) or is_library(file) for file, _ in frames):
        return None
    own = next((f for f in reversed(frames) if not is_foreign(f[0])), None)
    if own is None or own == inner:
        return f"{inner[0]}:{inner[1]}"
    return f"{own[0]}:{own[1]} (in {Path(inner[0]).name}:{inner[1]})"


def is_library(file: str) -> bool:
    """Whether a file is of the standard library, or no file."""
    return file.startswith(("<", *_LIBRARY)) and not file.startswith(_PACKAGES)


def is_machinery(file: str) -> bool:
    """Whether a file is of what carries tasks, and not of tasks."""
    return file.startswith(_MACHINERY)


def is_foreign(file: str) -> bool:
    """Whether a file is not of the project itself."""
    return is_library(file) or file.startswith(_PACKAGES) or is_machinery(file)


def add_sites(table: dict[str, Site], sites: Iterable[Site]) -> bool:
    """Add one run's finding to what is known of the task; say whether it is worth telling."""
    total = 0.0
    for site in sites:
        total += site.mb
        known = table.get(site.place)
        if known is not None:
            known.mb += site.mb
            known.blocks += site.blocks
        else:
            table[site.place] = Site(site.place, site.mb, site.blocks)
    if len(table) > KEPT:
        for site in top_sites(table.values(), len(table))[KEPT:]:
            del table[site.place]
    return total >= LEAST


def top_sites(sites: Iterable[Site], count: int) -> list[Site]:
    """Return the sites that hold the most."""
    return sorted(sites, key=lambda site: site.mb, reverse=True)[:count]
