"""How much memory this process holds: resident, its own part of it, and what is really in use.

Resident memory alone cannot tell a leak from memory that was freed and that the allocator keeps.
So on glibc, what the allocators have handed out and not got back is counted, too.  All figures
are MB (1,000,000 bytes).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import NamedTuple, cast

import psutil

MB = 1_000_000

#: Bytes of one small object, on the average: Python counts them, but does not tell their sizes.
SMALL = 64

#: Bytes in memory for each byte of a module's bytecode file.  Measured: 3 to 3.6 in pure Python.
BYTECODE = 5

#: The fields of glibc's `struct mallinfo2`.
MALLINFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Reading(NamedTuple):
    """The memory of this process at one moment, in MB."""

    resident: float
    #: Resident without pages of files and of shared memory.
    private: float
    #: Handed out by Python's and C's allocators and not freed; None: not read.
    in_use: float | None


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO]


def _find_mallinfo() -> Callable[[], _Mallinfo] | None:
    """Return glibc's `mallinfo2` (2.33 and newer), or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = (), _Mallinfo
    return cast("Callable[[], _Mallinfo]", function)


def give_back() -> None:
    """Make the C allocator return what it keeps without need, where it can (glibc)."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


class Meter:
    """Reads the memory of the process that it is used in, whichever that is after a fork.

    On Linux it reads what psutil reads, ``/proc/self/statm``, through a descriptor that stays
    open: 1.2 µs where a kept `psutil.Process` takes 10.  Elsewhere psutil measures.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._statm = -1
        self._process: psutil.Process | None = None
        self._mallinfo = _find_mallinfo()
        self.counts_in_use = self._mallinfo is not None

    def read(self, in_use: bool = True) -> Reading:
        """Return the memory now.  Raises `OSError` or `psutil.Error` where nothing can be read."""
        if self._pid != os.getpid():
            self._open()
        resident, shared = self._read_statm() if self._statm >= 0 else self._read_psutil()
        return Reading(resident / MB, (resident - shared) / MB, self._in_use() if in_use else None)

    def close(self) -> None:
        """Let go of the descriptor; the next reading opens another one."""
        if self._statm >= 0 and self._pid == os.getpid():
            with suppress(OSError):
                os.close(self._statm)
        self._pid, self._statm, self._process = 0, -1, None

    def _open(self) -> None:
        # A descriptor inherited over a fork still shows the parent.
        if self._statm >= 0:
            with suppress(OSError):
                os.close(self._statm)
        self._pid, self._statm = os.getpid(), -1
        self._process = psutil.Process()
        if sys.platform.startswith("linux"):
            with suppress(OSError):
                self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def _read_statm(self) -> tuple[int, int]:
        try:
            fields = os.pread(self._statm, 128, 0).split()
            if len(fields) != 7:
                raise ValueError(fields)
            return int(fields[1]) * _PAGE, int(fields[2]) * _PAGE
        except (OSError, ValueError):
            # Somebody closed all descriptors, and this number may be another file by now.
            self._statm = -1
            return self._read_psutil()

    def _read_psutil(self) -> tuple[int, int]:
        assert self._process is not None
        info = self._process.memory_info()
        return info.rss, getattr(info, "shared", 0)

    def _in_use(self) -> float | None:
        if self._mallinfo is None:
            return None
        info = self._mallinfo()
        return float(info.uordblks + info.hblkhd + SMALL * sys.getallocatedblocks()) / MB


class Budget:
    """Allows costly readings as long as they take a small share of the time of the runs.

    Walking a heap of a hundred thousand holes takes 300 µs and more; usually it is 10.
    """

    #: Seconds that are always allowed for a run, and the share of its time that is.
    LEAST, SHARE = 200e-6, 0.02
    #: Odd, so that it meets readings at the begin and at the end of runs in turn.
    EVERY = 7

    def __init__(self) -> None:
        self._debt = 0.0
        self._turn = 0

    def allows(self) -> bool:
        return self._debt <= 0

    def ran(self, seconds: float) -> None:
        """A run took so long."""
        self._debt = max(self._debt - max(self.LEAST, self.SHARE * seconds), -0.01)

    def start(self) -> float:
        """A reading begins; give what this returns to `spent`.

        The time of the thread, to which no other process adds.  To ask for it costs a microsecond
        itself, so it is asked for one reading in `EVERY`.
        """
        self._turn = (self._turn + 1) % self.EVERY
        return 0.0 if self._turn else time.thread_time()

    def spent(self, since: float) -> None:
        """The reading is over."""
        if since:
            self._debt += self.EVERY * (time.thread_time() - since)


def imported_mb(modules: Iterable[ModuleType | None]) -> float:
    """Return how much memory these modules may have taken at most, by the size of their files."""
    size = 0.0
    for module in modules:
        spec = getattr(module, "__spec__", None)
        origin, cached = getattr(spec, "origin", None), getattr(spec, "cached", None)
        with suppress(OSError, TypeError, ValueError):
            if isinstance(origin, str) and not origin.endswith((".py", ".pyc")):
                size += os.stat(origin).st_size if os.path.isabs(origin) else 0
            elif cached and os.path.exists(cached):
                size += BYTECODE * os.stat(cached).st_size
            elif origin:
                size += BYTECODE * os.stat(origin).st_size  # no bytecode file: about as large
    return size / MB
