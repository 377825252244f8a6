"""The status view, and events, as a plain ASGI application; mount it in Starlette or FastAPI."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from celery import Celery

from ..errors import JobtasticError
from ..resilience.daemon_pool import DaemonPool
from ..resilience.per_process import per_process
from ..results.reader import reads_of
from .access import is_async, make_access
from .asgi_overview import overview_app
from .hub import Channel, Hub, News
from .stored import Limits
from .subscription import Subscription
from .tokens import Secret
from .views import Answer, StatusView, forbidden, refuse, unknown

__all__ = ("StatusApp", "overview_app", "status_app")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ROUTE = re.compile(r"/(?:(?P<id>[^/]*)/)?(?P<what>status|events)/?")

#: The attribute of an app that holds the subscription of each process.
ATTRIBUTE = "_jobtastic_subscriptions"

#: Seconds between two comments on a stream with nothing to say, which keep proxies from closing
#: it, and seconds after which it ends, to be opened anew: a server can shut down between.
COMMENT, AGE = 15.0, 60.0

#: Bytes that the server is given at once, and the seconds that a client may take to read the rest
#: of a stream, or a whole answer.  Who reads nothing holds no more, and no longer.
PIECE, REST, WHOLE = 65_536, 30.0, 300.0

EVENT_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}


def status_app(
    app: Celery,
    *,
    authorize: Callable[[Any, str], Any] | None = None,
    signed: bool | Secret = False,
    user: Callable[[Any], Any] | None = None,
    tracebacks: bool = False,
    max_result: int | None = 5_000_000,
    timeout: float = 1.0,
    messages: str = "all",
    public_exceptions: Iterable[type[BaseException] | str] = (),
    legacy: bool = False,
    max_streams: int = 1_000,
) -> StatusApp:
    """Return an ASGI application that tells of the tasks of the Celery app `app`.

    Mounted under ``/task`` it serves ``/task/<id>/status/``, ``/task/status/?id=…&id=…`` and
    ``/task/<id>/events/``: the same JSON, sent by the server whenever it changes, to `max_streams`
    followers in this process at most.

    `authorize(scope, task_id)`, plain or async, returns whether the request of this ASGI scope may
    see this task.  `signed` asks for a token of `status_token`: the secret that signs them, or
    True for Django's.  `user(scope)` tells who asks, for tokens made for one user.  `legacy`: pages
    still have jquery-celery, which an outage would end.  The rest is as for `task_status`.

    Raises `ConfigurationError` if there is nothing to sign with, or for an option that means
    nothing.
    """
    limits = Limits(
        tracebacks=tracebacks,
        max_result=max_result,
        timeout=timeout,
        messages=messages,
        public_exceptions=public_exceptions,
    )
    access = make_access(authorize=authorize, signed=signed, user=user, awaits=True, at_once=True)
    view = StatusView(lambda: app, limits, access, legacy=legacy)
    return StatusApp(view, max_streams)


class StatusApp:
    """What `status_app` returns."""

    def __init__(self, view: StatusView, max_streams: int) -> None:
        self._view, self._max_streams = view, max_streams
        self._pool = per_process(lambda: DaemonPool(4))
        self._hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    @property
    def hub(self) -> Hub:
        """The hub of the running event loop."""
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            app = self._view.find_app()
            hub = self._hubs[loop] = Hub(self._view, self._pool(), lambda: subscription_of(app))
        return hub

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        route = ROUTE.fullmatch(local_path(scope))
        if route is None or (route["id"] is None and route["what"] == "events"):
            await respond(
                scope, send, refuse(404, "there is <id>/status/, status/?id=… and <id>/events/")
            )
            return
        try:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=500)
        except ValueError:
            await respond(scope, send, refuse(400, "the query has too many fields"))
            return
        many = route["id"] is None
        ids = query.get("id", []) if many else [route["id"]]
        refused = await self._refusal(scope, ids, query.get("token", []))
        if refused is not None:
            await respond(scope, send, refused)
        elif route["what"] == "events":
            await self._stream(scope, receive, send, ids[0])
        else:
            await respond(scope, send, await self._read(scope, ids, many))

    async def _refusal(self, scope: Message, ids: list[str], tokens: list[str]) -> Answer | None:
        view = self._view
        refused = view.refusal(scope, ids, tokens, scope["method"])
        authorize = view.access.authorize
        if refused is not None or authorize is None:
            return refused
        for task_id in ids:
            if is_async(authorize):
                may = await authorize(scope, task_id)
            else:
                may = await asyncio.to_thread(authorize, scope, task_id)
                if inspect.isawaitable(may):
                    may = await may
            if not view.access.agrees(may):
                return forbidden()
        return None

    async def _read(self, scope: Message, ids: list[str], many: bool) -> Answer:
        etag = header(scope, b"if-none-match")
        work = self._pool().submit(lambda: self._view.read(ids, etag=etag, many=many))
        return await asyncio.wrap_future(work)

    async def _stream(self, scope: Message, receive: Receive, send: Send, task_id: str) -> None:
        hub = self.hub
        if hub.followers >= self._max_streams:
            await respond(scope, send, unknown())
            return
        channel = hub.join(task_id)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            try:
                news = await channel.first()
            except JobtasticError:
                await respond(scope, send, unknown())
                return
            with ends_after(AGE + REST):
                await start(send, 200, EVENT_HEADERS)
                if scope["method"] != "HEAD":
                    await follow(channel, news, gone, send)
                await send({"type": "http.response.body", "body": b""})
        finally:
            hub.leave(channel)
            gone.cancel()


async def follow(channel: Channel, news: News, gone: asyncio.Future[None], send: Send) -> None:
    """Send each state until the last one, or until the client goes, the stream is old, or what it
    tells can no longer be confirmed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + AGE
    await send_body(send, event(news), more=True)
    while not news.final:
        if channel.news is news:
            pause = min(COMMENT, end - loop.time())
            if pause <= 0:
                return
            await asyncio.wait(
                {channel.changed, gone}, timeout=pause, return_when="FIRST_COMPLETED"
            )
        if gone.done() or channel.is_unconfirmed:
            return
        if channel.news is news or channel.news is None:
            await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
            continue
        news = channel.news
        await send_body(send, event(news), more=True)


def event(news: News) -> bytes:
    # JSON of msgspec has no line ends.
    return b"id: " + news.tag.strip('"').encode() + b"\ndata: " + news.body + b"\n\n"


async def send_body(send: Send, body: bytes, *, more: bool) -> None:
    """Send in pieces, each when the client has taken those before."""
    for begin in range(0, len(body) or 1, PIECE):
        end = begin + PIECE
        piece = body[begin:end]
        await send(
            {"type": "http.response.body", "body": piece, "more_body": more or end < len(body)}
        )


@contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """Leave the block after so many seconds, whatever it waits for; no error."""
    task, late = asyncio.current_task(), False

    def end() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except asyncio.CancelledError:
        if not late:
            raise
        if task is not None and hasattr(task, "uncancel"):  # from Python 3.11 on
            task.uncancel()
    finally:
        timer.cancel()


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(scope: Message, send: Send, answer: Answer) -> None:
    headers = dict(answer.headers)
    if answer.status != 304:
        headers["Content-Length"] = str(len(answer.body))
    body = b"" if scope["method"] == "HEAD" else answer.body
    with ends_after(WHOLE):
        await start(send, answer.status, headers)
        await send_body(send, body, more=False)


async def start(send: Send, status: int, headers: dict[str, str]) -> None:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def live(receive: Receive, send: Send) -> None:
    """Answer the server's start and end: there is nothing to do."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def local_path(scope: Message) -> str:
    """Return the path below where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


def header(scope: Message, name: bytes) -> str | None:
    found = [value for key, value in scope["headers"] if key == name]
    return b",".join(found).decode("latin-1") if found else None


def subscription_of(app: Celery) -> Subscription:
    """Return the one subscription of this process."""
    made = per_process(lambda: Subscription(reads_of(app)))
    own: Callable[[], Subscription] = vars(app).setdefault(ATTRIBUTE, made)
    return own()
