"""One connection to Redis that hears of every task somebody follows, for a whole process.

Celery's Redis backend publishes each state that it stores, under the key where it stores it.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from celery.backends.base import Backend

from ..resilience.per_process import start_daemon
from ..results.reader import Reads

logger = logging.getLogger("jobtastic_ext")

#: ``listener(task_id, payload)``, called by the subscription's thread; None for the payload means
#: that something may have been missed: it is heard from now on, or no longer.
Listener = Callable[[str, bytes | None], None]

#: Seconds without anybody to listen for, after which the connection is closed.
LINGER = 5.0

#: Seconds of silence after which Redis is asked whether it is there, and after which it is not.
QUIET, DEAD = 10.0, 15.0

#: Seconds between attempts to connect: first, longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Subscription:
    """Tells listeners what is published for their tasks.  One thread, while there are any."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        #: Wakes the thread; None while there is none.
        self._bell: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._connected = False

    @property
    def hears(self) -> bool:
        """Whether all that is published is heard; while it is not, tasks have to be read."""
        with self._lock:
            if self._bell is not None and not (self._thread and self._thread.is_alive()):
                logger.error("the thread that hears of results has ended; there is another now")
                self._start()
            return self._connected

    def add(self, task_id: str, listener: Listener) -> None:
        """Have `listener` told of the task; it hears None as soon as nothing more is missed."""
        with self._lock:
            self._listeners.setdefault(task_id, []).append(listener)
            if self._bell is None:
                self._start()
            self._ring()

    def remove(self, task_id: str, listener: Listener) -> None:
        """Tell `listener` no more of the task."""
        with self._lock:
            left = [one for one in self._listeners.get(task_id, ()) if one != listener]
            if left:
                self._listeners[task_id] = left
            else:
                self._listeners.pop(task_id, None)
            self._ring()

    def _start(self) -> None:
        if self._bell is not None:
            self._bell.close()
        self._connected = False
        self._bell, ear = socket.socketpair()
        self._bell.setblocking(False)
        ear.setblocking(False)
        self._thread = None
        try:
            self._thread = start_daemon(self._run, "subscription", ear)
        except RuntimeError as error:  # no more threads; the next look at `hears` tries again
            logger.error("nothing is heard of results: %s", error)
            ear.close()

    def _ring(self) -> None:
        if self._bell is None:
            return
        try:
            self._bell.send(b"x")
        except OSError:
            return  # it has been told often enough, or has ended, which `hears` finds

    def _run(self, ear: socket.socket) -> None:
        pause = FIRST_PAUSE
        with ear:
            while not self._ends():
                began = time.monotonic()
                try:
                    self._listen(ear)
                except Exception as error:  # noqa: BLE001 - the driver's; the tasks are read meanwhile
                    logger.info("the subscription to results is lost, and made again: %r", error)
                    self._missed()
                    lasted = time.monotonic() - began
                    pause = FIRST_PAUSE if lasted > QUIET else min(pause * 2, LONGEST_PAUSE)
                    time.sleep(pause)

    def _listen(self, ear: socket.socket) -> None:
        """Hear until nobody has listened for a while; raise what the driver raises."""
        backend = self._reads.backend()
        pubsub = backend.client.pubsub()
        names: dict[bytes, str] = {}
        heard = asked = needed = time.monotonic()
        try:
            while True:
                with self._lock:
                    wanted = set(self._listeners)
                now = time.monotonic()
                if wanted:
                    needed = now
                elif now - needed > LINGER:
                    return
                self._adjust(backend, pubsub, names, wanted)
                if names and now - heard > QUIET:
                    if now - heard > DEAD:
                        # Those that rest in the pool lead to the same peer.
                        backend.client.connection_pool.disconnect(inuse_connections=False)
                        raise ConnectionError(f"nothing heard for {DEAD:g} s")
                    if now - asked > QUIET / 4:
                        asked = now
                        pubsub.ping()
                self._connected = True
                self._wait(pubsub, ear)
                # Also without a name: Redis confirms that there is none any more.
                while pubsub.connection is not None:
                    message = pubsub.get_message(timeout=0)
                    if message is None:
                        break
                    heard = time.monotonic()
                    self._tell(names, message)
                if not names:
                    heard = time.monotonic()
        finally:
            self._connected = False
            pubsub.close()

    def _ends(self) -> bool:
        with self._lock:
            if self._listeners or self._bell is None:
                return False
            self._bell.close()
            self._bell = None
            return True

    def _adjust(
        self, backend: Backend, pubsub: Any, names: dict[bytes, str], ids: set[str]
    ) -> None:
        known = {task_id: key for key, task_id in names.items()}
        new = {as_bytes(backend.get_key_for_task(one)): one for one in ids - known.keys()}
        if new:
            pubsub.subscribe(*new)
            names.update(new)
        old = [key for task_id, key in known.items() if task_id not in ids]
        if old:
            pubsub.unsubscribe(*old)
            for key in old:
                del names[key]

    def _wait(self, pubsub: Any, ear: socket.socket) -> None:
        """Wait for Redis or for a listener, a second at most."""
        # As Celery does.  Private to redis-py; without it Redis is asked 20 times a second.
        # One that is subscribed to nothing is not read either, so it must not be waited for.
        connection = getattr(pubsub.connection, "_sock", None) if pubsub.subscribed else None
        sockets = [ear] if connection is None else [ear, connection]
        poll = select.poll()
        for one in sockets:
            poll.register(one, select.POLLIN)
        idle = connection is None and pubsub.subscribed
        poll.poll(50 if idle else 1000)
        try:
            while ear.recv(4096):
                pass
        except BlockingIOError:
            return

    def _tell(self, names: dict[bytes, str], message: dict[str, Any]) -> None:
        kind, channel = message["type"], message["channel"]
        if kind not in ("message", "subscribe"):
            return
        task_id = names.get(as_bytes(channel))
        if task_id is None:
            return
        self._pass_on(task_id, message["data"] if kind == "message" else None)

    def _missed(self) -> None:
        """Have everything that is followed read, since nothing is heard."""
        with self._lock:
            ids = list(self._listeners)
        for task_id in ids:
            self._pass_on(task_id, None)

    def _pass_on(self, task_id: str, payload: bytes | None) -> None:
        with self._lock:
            listeners = list(self._listeners.get(task_id, ()))
        for listener in listeners:
            try:
                listener(task_id, payload)
            except Exception:
                logger.exception("a follower of task %s is not told", task_id)


def as_bytes(name: bytes | str) -> bytes:
    return name.encode() if isinstance(name, str) else name
