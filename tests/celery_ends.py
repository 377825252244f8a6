"""What apps keep open for as long as their process lives, closed when a module's tests are over.

`Celery.close()` closes no connection: those to the broker stay in kombu's pools, which are shared
by all apps of the same broker's URL, and those to the result backend stay with each thread's own
backend object until the garbage collector finds it.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from typing import Any

import redis
from celery._state import _get_active_apps
from celery.backends.base import Backend
from kombu import pools

from jobtastic_ext.results import reader
from jobtastic_ext.runtime import close_runtime

# A thread's backend that was not closed by then would warn of its socket in whichever test runs
# when it is collected.

#: Every thread's backends.
backends: weakref.WeakSet[Backend] = weakref.WeakSet()


def remember() -> None:
    """Know every backend that is made from now on, and close its socket when it is collected."""
    real, connect = Backend.__init__, redis.connection.Connection._connect

    def init(self: Backend, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        backends.add(self)

    def connect_and_close(self: redis.Connection) -> socket.socket:
        opened: socket.socket = connect(self)
        if type(self).__module__.startswith(("redis.", "kombu.")):  # not one of ours
            weakref.finalize(self, opened.close).atexit = False
        return opened

    Backend.__init__ = init
    redis.connection.Connection._connect = connect_and_close


def close_all() -> None:
    """Close what the apps of this process have opened.  They can be used no more."""
    for app in list(_get_active_apps()):
        close_runtime(app)
        reads = vars(app).pop(reader.ATTRIBUTE, None)
        if reads is not None:
            reads._results.close()
    pools.reset()  # closes the pools and forgets them: a closed one would be the next app's
    for backend in list(backends):
        consumer = getattr(backend, "result_consumer", None)
        if consumer is not None:
            with contextlib.suppress(AttributeError):  # of `rpc://`, where it never began
                consumer.stop()
        # Results that are collected later would unsubscribe, by a new connection.
        backend.remove_pending_result = lambda result: None  # type: ignore[method-assign]
        client = vars(backend).get("client")
        if hasattr(client, "connection_pool"):  # redis-py; `close` would leave a given pool alone
            client.connection_pool.disconnect()
        elif hasattr(client, "disconnect_all"):  # pylibmc
            client.disconnect_all()
        elif hasattr(client, "close"):  # pymemcache
            client.close()
    backends.clear()
