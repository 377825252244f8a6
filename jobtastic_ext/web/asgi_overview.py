"""The overview as a plain ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from celery import Celery

from .overview import LONGEST_FORM, Asked, Overview, awaited, refused
from .views import Answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def overview_app(
    app: Celery,
    *,
    authorize: Callable[[Any], Any] | None = None,
    may_forget: Callable[[Any], Any] | None = None,
) -> OverviewApp:
    """Return an ASGI application of one page for operators: what is saved, and what is under way.

    ``app.mount("/jobtastic", overview_app(celery_app, authorize=is_admin))``, and open
    ``/jobtastic/``.

    `authorize(scope)`, plain or async, returns True for those who may see it: all tasks and ids, no
    arguments.  `may_forget(scope)` returns True for those who may let go of a call, too; nobody may
    if it is left out.  Raises `ConfigurationError` without an `authorize`.
    """
    return OverviewApp(Overview(lambda: app, authorize, may_forget, awaits=True))


class OverviewApp:
    """What `overview_app` returns."""

    def __init__(self, page: Overview) -> None:
        self._page = page

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # whoever mounts it has a lifespan, and it has none of its own
        answer = await self._answer(scope, receive)
        pairs = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        pairs.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        page = self._page
        if not await self._agrees(page.authorize, scope):
            return refused(403, "This page is not yours to see.")
        may_forget = page.may_forget is not None and await self._agrees(page.may_forget, scope)
        form = await read_form(receive) if scope["method"] == "POST" else {}
        if form is None:
            return refused(413, "This form is too long.")
        asked = Asked(
            request=scope,
            method=scope["method"],
            query=fields(scope.get("query_string", b"")),
            form=form,
            headers={k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
        )
        return await asyncio.to_thread(page.serve, asked, may_forget)

    async def _agrees(self, ask: Callable[[Any], Any], scope: Message) -> bool:
        return self._page.agrees(await awaited(await asyncio.to_thread(ask, scope)))


async def read_form(receive: Receive) -> dict[str, str] | None:
    """Return the fields of a form; None if it is too long."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > LONGEST_FORM:
            return None
    return fields(body)


def fields(text: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(text.decode("latin-1"), max_num_fields=50))
    except ValueError:
        return {}
