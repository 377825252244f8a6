"""The overview of an operator, whatever the framework: what is saved, what is held, and letting go.

Nothing is shown to whom `authorize` does not let in, and nothing is let go of but by a form of this
very page.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from celery import Celery
from msgspec import Struct

from ..errors import ConfigurationError, JobtasticError, StoreError
from ..keys.call_key import keys_head
from ..operations.held import Held
from ..runtime import Runtime, runtime_of
from .access import Access, is_async
from .document import HEADERS, SPANS, Shown, document
from .views import Answer

logger = logging.getLogger("jobtastic_ext")

#: Claims that are shown at most, of how many that are looked at, and the seconds that may take.
MOST, LOOKED_AT, SECONDS = 200, 5_000, 2.0

#: Bytes of a form that are read.
LONGEST_FORM = 20_000

#: What the page says after a form, by the word in its address.
SAID = {
    "forgotten": ("good", "Forgotten. The next identical call runs."),
    "gone": ("", "There was nothing to forget any more."),
}


class Asked(Struct, frozen=True, kw_only=True):
    """A request, whatever the framework."""

    request: Any
    method: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    #: Headers by their names in small letters.
    headers: Mapping[str, str]


class Overview:
    """Answers for the app that `find_app` returns.

    `may_forget(request)` is None where nobody may let go of anything.
    """

    def __init__(
        self,
        find_app: Callable[[], Celery],
        authorize: Callable[[Any], Any] | None,
        may_forget: Callable[[Any], Any] | None = None,
        *,
        awaits: bool = False,
    ) -> None:
        self.find_app = find_app
        self.authorize = checked("authorize", authorize, awaits)
        self.may_forget = may_forget and checked("may_forget", may_forget, awaits)
        self._access = Access()

    def agrees(self, said: object) -> bool:
        """Whether what `authorize` has returned means yes."""
        return self._access.agrees(said)

    def answer(
        self,
        asked: Asked,
        *,
        fields: Mapping[str, str] | None = None,
        home: tuple[str, str] | None = None,
    ) -> Answer:
        """Answer, after asking who may see it; `fields` are what a form has to bring."""
        if not self.agrees(self.authorize(asked.request)):
            return refused(403, "This page is not yours to see.")
        may_forget = self.may_forget is not None and self.agrees(self.may_forget(asked.request))
        return self.serve(asked, may_forget, fields=fields, home=home)

    def serve(
        self,
        asked: Asked,
        may_forget: bool,
        *,
        fields: Mapping[str, str] | None = None,
        home: tuple[str, str] | None = None,
    ) -> Answer:
        """Answer to one who may see it."""
        runtime = runtime_of(self.find_app())
        if runtime is None:
            return refused(503, "jobtastic is not enabled for this app.")
        try:
            if asked.method == "POST":
                return self._forget(runtime, asked, may_forget)
            if asked.method not in ("GET", "HEAD"):
                return refused(405, "This page is read with GET.")
            return self._show(runtime, asked, (fields or {}) if may_forget else None, home)
        except JobtasticError as error:
            logger.warning("the overview is not shown: %s", error)
            return refused(503, "The store of claims does not answer. Try again soon.")

    def _forget(self, runtime: Runtime, asked: Asked, may_forget: bool) -> Answer:
        if not may_forget:
            return refused(403, "You may look, and not let go of anything.")
        if not is_same_origin(asked.headers):
            return refused(403, "This did not come from a form of this page.")
        key = asked.form.get("key", "")
        # What is no call of this deployment is not touched, whatever a form says.
        ours = key.startswith(keys_head(runtime.settings.key_prefix))
        held = runtime.desk.claim(key)[1] if ours else None
        count = runtime.desk.forget([key]) if held is not None else 0
        told = {"since": span_of(asked.form), "said": "forgotten" if count else "gone"}
        return Answer(303, b"", {**HEADERS, "Location": f"?{urlencode(told)}"})

    def _show(
        self,
        runtime: Runtime,
        asked: Asked,
        form: Mapping[str, str] | None,
        home: tuple[str, str] | None,
    ) -> Answer:
        since = span_of(asked.query)
        said = [SAID[word] for word in (asked.query.get("said"),) if word in SAID]
        savings = runtime.desk.savings(SPANS[since][1])
        try:
            claims, more = claims_of(runtime)
        except StoreError as error:
            logger.debug("the overview lists no claims: %s", error)
            claims, more = [], False
            said.append(("bad", "This store cannot list the calls that are under way."))
        shown = Shown(
            since=since,
            savings=savings,
            claims=claims,
            more=more,
            said=tuple(said),
            form=form,
            home=home,
        )
        return Answer(200, document(shown), dict(HEADERS))


def checked(name: str, function: Any, awaits: bool) -> Callable[[Any], Any]:
    """Return what is asked who may do what.  Raises `ConfigurationError` if it cannot be."""
    if not callable(function):
        raise ConfigurationError(
            f"the overview shows every task and can let go of calls: give `{name}=`, a function of "
            "the request that returns True for those who may"
        )
    if is_async(function) and not awaits:
        raise ConfigurationError(
            f"`{name}` of the overview is awaited by ASGI only; give a plain one"
        )
    return function  # type: ignore[no-any-return]


async def awaited(said: Any) -> Any:
    return await said if inspect.isawaitable(said) else said


def claims_of(runtime: Runtime) -> tuple[list[Held], bool]:
    """Return the oldest of those that can be looked at in so much time, and whether there are more.

    Raises `StoreError`.
    """
    until, found, more = time.monotonic() + SECONDS, list[Held](), False
    for page in runtime.desk.pages():
        more = len(found) >= LOOKED_AT or time.monotonic() > until
        if more:
            break
        found += page
    found.sort(key=lambda one: (not one.overdue, -one.age))
    return found[:MOST], more or len(found) > MOST


def span_of(given: Mapping[str, str]) -> str:
    since = given.get("since", "")
    return since if since in SPANS else "7d"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that the form was on a page of this server.

    Every browser sends one of the two with a form, and no page can make it send another.
    """
    site = headers.get("sec-fetch-site")
    if site:
        return site == "same-origin"
    origin = headers.get("origin")
    return bool(origin) and urlsplit(origin).netloc == headers.get("host")


def refused(status: int, message: str) -> Answer:
    headers = {**HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    if status == 405:
        headers["Allow"] = "GET, HEAD, POST"
    return Answer(status, message.encode(), headers)
