"""What the followers of tasks are sent: one reading of a task for all of them.

Where results are published (Redis) it is heard, and read now and then to be sure; where not, all
tasks that are followed are read together once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from celery import states
from msgspec import Struct

from ..errors import JobtasticError, ResultsUnavailable
from ..resilience.daemon_pool import DaemonPool
from ..results.kinds import publishes
from ..results.reader import reads_of
from .status import MOST_IDS, payload_status, statuses
from .stored import encode
from .subscription import Subscription
from .views import StatusView, etag_of

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two readings of everything that is followed: where it is heard, where not.
CHECK, POLL = 10.0, 1.0

#: So many readings of a task that fail in a row end its streams: the pages ask, and say what they
#: find.  One alone may be a moment's trouble.
UNCONFIRMED = 2


class News(Struct, frozen=True):
    """A state of a task, ready to be sent."""

    body: bytes
    tag: str
    final: bool
    #: There should have been another report by now.
    silent: bool = False


class Channel:
    """One task and those who follow it."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.followers = 0
        self.news: News | None = None
        self.trouble: JobtasticError | None = None
        #: Readings in a row that have failed.
        self.failures = 0
        #: Counts what was heard, so that a reading begun before is not taken for newer.
        self.heard = 0
        #: Done as soon as there is anything new; then there is another.
        self.changed = new_future()

    def tell(self, news: News) -> None:
        """Pass on a state, if it says anything new."""
        self.trouble, self.failures = None, 0
        if self.news is None or self.news.tag != news.tag:
            self.news = news
            self._wake()

    def fail(self, error: JobtasticError) -> None:
        """Tell those who have heard nothing yet, and after a while all, that it is not known."""
        self.trouble = error
        self.failures += 1
        if self.news is None or self.is_unconfirmed:
            self._wake()

    @property
    def is_unconfirmed(self) -> bool:
        """Whether what was told is out of date, as far as anybody knows."""
        return self.failures >= UNCONFIRMED

    @property
    def is_doubtful(self) -> bool:
        """Whether it is looked at again soon."""
        return self.failures > 0 or (self.news is not None and self.news.silent)

    def _wake(self) -> None:
        done, self.changed = self.changed, new_future()
        done.set_result(None)

    async def first(self) -> News:
        """Return the state as it is; wait for it if it has not been read.

        Raises `JobtasticError` if it cannot be read.
        """
        while self.news is None:
            if self.trouble is not None:
                raise self.trouble
            await asyncio.shield(self.changed)
        return self.news


class Hub:
    """The channels of one event loop.  Its one task runs while anybody follows anything."""

    def __init__(
        self, view: StatusView, pool: DaemonPool, make_subscription: Callable[[], Subscription]
    ) -> None:
        self._view, self._pool, self._make_subscription = view, pool, make_subscription
        self.followers = 0
        self._subscription: Subscription | None = None
        #: Whether it is known if states are published.
        self._asked = False
        self._loop = asyncio.get_running_loop()
        self._channels: dict[str, Channel] = {}
        self._due: set[str] = set()
        self._work = asyncio.Event()
        #: When everything was read last, by the loop's clock.
        self._checked = self._loop.time()
        self._task: asyncio.Task[None] | None = None

    def join(self, task_id: str) -> Channel:
        """Follow a task; `leave` the channel afterwards, whatever happens."""
        channel = self._channels.get(task_id)
        if channel is None:
            channel = self._channels[task_id] = Channel(task_id)
            self._read_soon(task_id)
            if self._subscription is not None:
                self._subscription.add(task_id, self._listen)
        channel.followers += 1
        self.followers += 1
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run())
        return channel

    def leave(self, channel: Channel) -> None:
        channel.followers -= 1
        self.followers -= 1
        if channel.followers or self._channels.get(channel.task_id) is not channel:
            return
        del self._channels[channel.task_id]
        self._due.discard(channel.task_id)
        if self._subscription is not None:
            self._subscription.remove(channel.task_id, self._listen)
        if not self._channels and self._task is not None:
            self._task.cancel()
            self._task = None

    # What is read

    def _read_soon(self, task_id: str) -> None:
        if task_id in self._channels:
            self._due.add(task_id)
            self._work.set()

    async def _run(self) -> None:
        """Read what is due, and everything once in a while, whatever happens."""
        while True:
            try:
                await self._subscribe()
                await self._read_due()
            except Exception:
                logger.exception("those who follow tasks are not told at the moment")
                await asyncio.sleep(POLL)

    async def _read_due(self) -> None:
        subscription = self._subscription
        heard = subscription is not None and subscription.hears
        doubtful = [one.task_id for one in self._channels.values() if one.is_doubtful]
        rest = self._checked + (CHECK if heard else POLL) - self._loop.time()
        try:
            await asyncio.wait_for(self._work.wait(), min(rest, POLL) if doubtful else rest)
        except (TimeoutError, asyncio.TimeoutError):
            if doubtful and rest > POLL:
                self._due.update(doubtful)
            else:
                self._due.update(self._channels)
                self._checked = self._loop.time()
        self._work.clear()
        due = [task_id for task_id in self._due if task_id in self._channels]
        self._due.clear()
        for start in range(0, len(due), MOST_IDS):
            await self._read(due[start : start + MOST_IDS])

    async def _subscribe(self) -> None:
        """Have the tasks heard, if their states are published."""
        if self._asked:
            return
        reads = reads_of(self._view.find_app())
        try:
            heard = await asyncio.wrap_future(self._pool.submit(lambda: publishes(reads.backend())))
        except JobtasticError:
            return  # it is told by what is read, and asked again
        self._asked = True
        if heard:
            self._subscription = self._make_subscription()
            for task_id in self._channels:
                self._subscription.add(task_id, self._listen)

    async def _read(self, ids: list[str]) -> None:
        asked = [self._channels[task_id] for task_id in ids if task_id in self._channels]
        heard = {channel.task_id: channel.heard for channel in asked}
        try:
            found = await asyncio.wrap_future(self._pool.submit(lambda: self._news(list(heard))))
        except JobtasticError as error:
            for channel in asked:
                channel.fail(error)
            return
        except Exception as error:
            logger.exception("the tasks that are followed cannot be read")
            for channel in asked:
                channel.fail(ResultsUnavailable(repr(error)))
            return
        for channel in asked:
            news = found.get(channel.task_id)
            if news is not None and channel.heard == heard[channel.task_id]:
                channel.tell(news)

    def _news(self, ids: list[str]) -> dict[str, News]:
        view = self._view
        tasks = statuses(view.find_app(), ids, view.limits)
        found = {task["id"]: news_of(task) for task in tasks}
        for task_id in [task["id"] for task in tasks if "omitted" in task and len(ids) > 1]:
            # All together were too much, which is no business of those who follow this one.
            with suppress(JobtasticError):
                found[task_id] = news_of(statuses(view.find_app(), [task_id], view.limits)[0])
        return found

    # What is heard, in the thread of the subscription

    def _listen(self, task_id: str, payload: bytes | None) -> None:
        if payload is None:
            self._call(self._read_soon, task_id)
            return
        app = self._view.find_app()
        backend = reads_of(app).backend()
        task = payload_status(app, backend, task_id, payload, self._view.limits, heard=True)
        self._call(self._heard, task_id, news_of(task))

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop.is_closed():
            # The server is gone without its clients having left.
            if self._subscription is not None:
                self._subscription.remove(str(arguments[0]), self._listen)
            return
        self._loop.call_soon_threadsafe(function, *arguments)

    def _heard(self, task_id: str, news: News) -> None:
        channel = self._channels.get(task_id)
        if channel is not None:
            channel.heard += 1
            channel.tell(news)


def news_of(task: dict[str, object]) -> News:
    body = encode({"task": task})
    final, silent = task["status"] in states.READY_STATES, "unconfirmed" in task
    return News(body, etag_of(body), final, silent)


def new_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
