"""How far one run is: counts come in often, and now and then a state to be shown goes out.

Knows no Celery and no server.  What the counts mean, and what becomes of odd ones, is written in
docs/progress.md.
"""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from math import inf, isfinite, isnan
from typing import Any

from ..estimates.estimator import Estimate, History, estimate, percent
from ..results.state_writer import Sender

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two writes of one run.
INTERVAL = 0.25

#: So many samples of a run are kept; past that, every other one is dropped.
MOST_SAMPLES = 240

#: Characters of a message that are shown.
LONGEST_MESSAGE = 500

#: Seconds of silence after which a state is written anew, since its time remaining has aged: at
#: least, at most, and as a share of the time that the run has taken.
QUIET, LONGEST_QUIET, QUIET_SHARE = 5.0, 30.0, 0.05
#: The same for a run that never reports: its percent comes from past runs.
BLIND, LONGEST_BLIND = 1.0, 10.0

#: Beyond it a whole number is shown as a float: not every reader of JSON holds more.
LARGEST = 2**53

#: Stands for what could not be read.
UNREAD: Any = object()

#: What is done, and of how much; None for an unknown total.
Counts = tuple[float, float | None]


class Frame:
    """One `track` under way."""

    __slots__ = ("n", "total")

    def __init__(self, total: float | None) -> None:
        self.n = 0
        self.total = total


class Progress:
    """One run's counts, samples and shown state.

    `counted`, `latest` and `due` are written by the thread of the task without the lock; all else
    happens under it, in that thread and in the ticker's.
    """

    #: The run that this one interrupts.
    outer: Progress | None = None
    #: Seconds that the run took, once it is over.
    ended: float | None = None
    #: The last count that `update_frequency` let pass.
    counted: float = inf
    latest: tuple[Any, Any, str | None] | None = None
    complete = False
    message: str | None = None
    history = History()
    #: Past runs told how far they were, so that nothing need be guessed.
    reports = False
    #: Names of the histories that learn from this run.
    learns: tuple[str, ...] = ()
    #: Counts fell: only the duration is worth learning.
    irregular = False
    #: Told of the run once it shows something, so that somebody calls `tick`.
    watch: Callable[[Progress], object] | None = None
    _leaf: Counts | None = None
    _taken: tuple[Any, Any, str | None] | None = None
    _percent = 0.0
    _phase = 0.0
    _shown: object = None
    _written = -inf
    _warned = False

    def __init__(
        self,
        task: Any = None,
        send: Sender | None = None,
        *,
        name: str = "",
        urgent: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Whose run it is; None for one that shows nothing.
        self.task, self.send = task, send
        #: How messages call the run.
        self.name = name
        self.clock = clock
        #: The stack of tasks of this thread.
        self.stack: list[Any] = []
        self.begun = clock()
        self.closed = send is None
        #: Not before then is a count looked at, unless it is the last.
        self.due = inf if self.closed else -inf
        self.frames: list[Frame] = []
        #: What every state says besides.
        self.extras: dict[str, Any] = {}
        #: What must reach the task in the midst of a report, such as Celery's soft time limit.
        self._urgent = urgent
        self._lock = threading.RLock()  # a signal handler may report in the midst of a report
        self._samples: list[tuple[float, float]] = [(0.0, 0.0)]

    # What the task says

    def update(
        self, completed: Any, total: Any, frequency: Any = 1, message: str | None = None
    ) -> None:
        """Take a count that may be worth showing."""
        if self.closed:
            return
        known = self.read(count, completed), self.read(total_of, total)
        every, text = self.read(plain, frequency, 1), self.read(shortened, message)
        if UNREAD in known:
            return
        done, whole = known
        with self._lock:
            last = not self.frames and not self.complete and is_complete(done, whole)
            if not last and self._is_passed_over(done, every, text):
                return
            self.counted = done
            self.latest = (done, whole, text)
            self.offer(forced=last)

    def _is_passed_over(self, done: float, every: float, message: str | None) -> bool:
        if self.counted == inf:
            if 0 < done < every:
                self.counted = 0
                return True
            return False
        return 0 <= done - self.counted < every and (message is None or message == self.message)

    def read(self, how: Callable[[Any], Any], value: Any, instead: Any = UNREAD) -> Any:
        """Return what `how` makes of something that a task gave; `instead` if that fails.

        A run is warned once: a report never fails a task, whatever it is given.
        """
        try:
            return how(value)
        except self._urgent:
            raise
        except Exception:  # noqa: BLE001 - anything may be given
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s: %s is left out of a report of progress: it takes numbers, None for an "
                    "unknown total, and text as a message; the task goes on",
                    self.name,
                    described(value),
                )
            return instead

    def enter(self, frame: Frame) -> None:
        """A `track` begins, within those that are under way."""
        with self._lock:
            self.forget_counts()
            if not self.frames and len(self._samples) > 1:
                self._start_anew()
            self.frames.append(frame)
            self.offer()

    def step(self) -> None:
        """An item of a `track` is done, and it is time to say so."""
        with self._lock:
            self.offer()

    def leave(self, frame: Frame, finished: bool) -> None:
        """A `track` is over; if it is `finished`, all of it is done."""
        with self._lock:
            if frame not in self.frames:
                return
            outermost = self.frames == [frame]
            self.frames.remove(frame)
            if self.closed or not outermost:
                return
            whole = max(frame.n, 0) if finished else frame.total
            self.counted = frame.n
            self.latest = (frame.n, whole, self.message)
            self.offer(forced=True)

    def forget_counts(self) -> None:
        """An item of a `track` is done, and with it what was counted within."""
        self.latest = self._taken = self._leaf = None
        self.counted = inf

    # When to write

    def begin(self) -> None:
        """Show that the run has begun, and how long it may take.

        One that is known to be over before the next write could be made shows it only if it is not.
        """
        with self._lock:
            self.begun = self.clock()
            longest = whole_run(self.history).high
            if self.watch is not None and longest is not None and longest < INTERVAL:
                self.due = self.begun + INTERVAL
                self.watch(self)
                self.watch = None
            else:
                self._renew(self.begun, aged=True)

    def offer(self, forced: bool = False) -> None:
        """Write what is new, if it is time or `forced`.  The caller holds the lock."""
        now = self.clock()
        if not self.closed and (now >= self.due or forced):
            self._renew(now)

    def tick(self) -> None:
        """Write what was held back, or what has aged.  Called now and then, from another thread."""
        if self.closed or not self._lock.acquire(blocking=False):
            return  # it is writing just now
        try:
            now = self.clock()
            if not self.closed and now >= self.due:
                self._renew(now, aged=now - self._written >= self._patience(now))
        finally:
            self._lock.release()

    def _renew(self, now: float, aged: bool = False) -> None:
        """Take in the latest counts, and write them if they are new or what is shown has aged."""
        try:
            self._absorb(now)
            if aged or self._mark() != self._shown:
                self._write(now)
        except self._urgent:
            raise
        except Exception:
            # A report never fails a task, whatever is wrong with it.
            self.closed, self.due = True, inf
            logger.exception("%s: its progress is not shown any more; it goes on", self.name)

    def close(self) -> None:
        """The body is over: nothing more is written.  Waits for a write under way."""
        with self._lock:
            if self.ended is None:
                self.ended = self.clock() - self.begun
            self.closed, self.due = True, inf

    def _patience(self, now: float) -> float:
        aged = (now - self.begun) * QUIET_SHARE
        if self.fraction() is None:
            known = self.history != History()
            return min(max(aged, BLIND), LONGEST_BLIND) if known else inf
        return quiet(aged)

    def _mark(self) -> object:
        return self._counts(), self.fraction(), self.message

    def _write(self, now: float) -> None:
        assert self.send is not None
        if self.watch is not None:
            self.watch(self)
            self.watch = None
        self._shown = self._mark()
        if not self.send(self.state(now)):
            self.closed = True
        self._written = self.clock()
        self.due = inf if self.closed else self._written + INTERVAL

    # What it means

    def fraction(self) -> float | None:
        """Return which part of the run is done; None while nobody knows."""
        found = None if self._leaf is None else share(*self._leaf)
        for frame in reversed(self.frames):
            found = share(frame.n + (found or 0.0), frame.total)
        return found

    @property
    def samples(self) -> list[tuple[float, float]]:
        """What there is to learn from this run, beside its duration."""
        return [] if self.irregular or len(self._samples) < 2 else self._samples

    def state(self, now: float) -> dict[str, Any]:
        """Return what is shown: times in seconds, `progress_percent` 0 to 100 and never falling."""
        elapsed = max(now - self.begun, 0.0)
        found = self.fraction()
        guess = None
        if found is None and elapsed and not self.reports:
            guess = percent(self.history, elapsed)
        part = found if found is not None else (guess or 0.0) / 100
        self._percent = max(self._percent, min(100 * part, 100.0))
        expected = self._estimate(elapsed, found)
        meta: dict[str, Any] = {
            "progress_percent": shown_percent(self._percent),
            "time_remaining": rounded(expected.seconds, -1),
            "elapsed": round(elapsed, 3),
        }
        completed, total = self._counts()
        further = {
            "completed": completed,
            "total": total,
            "time_remaining_low": rounded(expected.low, None),
            "time_remaining_high": rounded(expected.high, None),
            "message": self.message,
            "estimated": True if guess and self._percent else None,
        }
        meta.update((name, value) for name, value in further.items() if value is not None)
        meta.update(self.extras)
        return meta

    def _counts(self) -> tuple[float | None, float | None]:
        if self.frames:
            return self.frames[0].n, self.frames[0].total
        return self._leaf if self._leaf is not None else (None, None)

    def _estimate(self, elapsed: float, found: float | None) -> Estimate:
        if found is None:
            return (
                estimate(self.history, [(0.0, 0.0), (elapsed, 0.0)])
                if elapsed
                else whole_run(self.history)
            )
        if self.irregular:
            samples = self._samples_until(elapsed, found)
            return estimate(History(), [(moment - self._phase, part) for moment, part in samples])
        return estimate(self.history, self._samples_until(elapsed, found))

    def _samples_until(self, elapsed: float, found: float) -> list[tuple[float, float]]:
        last, part = self._samples[-1]
        if last >= elapsed:
            return self._samples
        return [*self._samples, (elapsed, max(found, part))]

    def _absorb(self, now: float) -> None:
        """Take in the latest counts, and remember how far the run is now."""
        latest = self.latest
        if latest is not None and latest is not self._taken:
            self._taken = latest
            done, whole = self.read(count, latest[0]), self.read(total_of, latest[1])
            if done is not UNREAD and whole is not UNREAD:
                self._take(done, whole)
            if latest[2] is not None:
                self.message = latest[2]
        found = self.fraction()
        self.complete = found == 1 and not self.frames
        if found is not None:
            self._sample(max(now - self.begun, 0.0), found)

    def _take(self, done: float, whole: float | None) -> None:
        before, self._leaf = self._leaf, (done, whole)
        if before is None or self.frames:
            return
        if done < before[0]:
            self._start_anew()
        elif before[1] and whole and whole > before[1]:
            # There is more to do than was known, so less of it was done.
            scale = before[1] / whole
            self._samples = [(moment, part * scale) for moment, part in self._samples]

    def _start_anew(self) -> None:
        """Counts fell, or another loop begins: the time is judged by this phase alone."""
        self.irregular = True
        self._phase = max(self.clock() - self.begun, 0.0)
        self._samples = [(self._phase, 0.0)]

    def _sample(self, elapsed: float, found: float) -> None:
        samples = self._samples
        samples.append((elapsed, max(found, samples[-1][1])))
        if len(samples) > MOST_SAMPLES:
            del samples[1:-1:2]


def quiet(aged: float) -> float:
    return min(max(aged, QUIET), LONGEST_QUIET)


def longest_silence(elapsed: float) -> float:
    """Return within how many seconds a run that said `elapsed` in its last report says another."""
    return quiet(elapsed * QUIET_SHARE / (1 - QUIET_SHARE))


@lru_cache(maxsize=64)
def whole_run(history: History) -> Estimate:
    """Return how long a run will take that begins now: asked for every run, however brief."""
    return estimate(history, [(0.0, 0.0)])


#: Stands where there is no run.
NOBODY = Progress()


def count(value: Any) -> float:
    """Return what is done as a plain number, not below 0."""
    number = plain(value)
    if not isfinite(number):
        raise ValueError(value)
    return max(number, 0)


def total_of(value: Any) -> float | None:
    """Return a total as a plain number; None where it says nothing."""
    if value is None:
        return None
    number = plain(value)
    return None if isnan(number) or number == inf or number < 0 else number


def plain(value: Any) -> float:
    """Return a number of any kind as an int or a float.  Raises what the value raises."""
    if isinstance(value, str | bytes):
        raise ValueError(value)
    try:
        whole = operator.index(value)
    except TypeError:
        return float(value)
    return whole if -LARGEST <= whole <= LARGEST else float(whole)


def shortened(message: Any) -> str | None:
    """Return a message as it is shown."""
    return None if message is None else str(message)[:LONGEST_MESSAGE]


def described(value: Any) -> str:
    """Return what stands for a value in a log, also for one that fails whenever it is asked."""
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001
        return f"an object of type {type(value).__name__}"


def is_complete(done: float, whole: float | None) -> bool:
    return whole is not None and done >= whole


def share(done: float, whole: float | None) -> float | None:
    if whole is None:
        return None
    return 1.0 if done >= whole else done / whole


def shown_percent(percent: float) -> float:
    """Return a percent with one decimal; what is not yet all is not 100."""
    return round(percent, 1) if percent >= 100 else min(round(percent, 1), 99.9)


def rounded(value: float | None, unknown: float | None) -> float | None:
    """Return a time as it is shown: whole milliseconds, and `unknown` for what is no time."""
    if value is None or not isfinite(value) or value < 0:
        return unknown
    return round(value, 3)
