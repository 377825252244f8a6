"""Who may see which task.  Nothing is guessed: what is not understood opens nothing."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from ..errors import ConfigurationError, InvalidToken
from .status import MOST_IDS
from .tokens import Anybody, Signer, open_token, signer, user_key

logger = logging.getLogger("jobtastic_ext")

#: ``authorize(request, task_id)``: whether whoever asks may see this task.
Authorize = Callable[[Any, str], Any]


class Access(Struct, frozen=True, kw_only=True):
    """Who may see what.  Where both are given, both have to agree."""

    authorize: Authorize | None = None
    #: Makes the signer of the tokens, for each request; None asks for no token.
    signer: Callable[[], Signer] | None = None
    #: ``user(request)``: who asks, for tokens that are made for one user; `ANYBODY` where users
    #: are not asked for, and only there a token for nobody in particular opens to its holder.
    user: Callable[[Any], Any] | None = None

    def check_tokens(self, request: Any, ids: Sequence[str], tokens: Sequence[str]) -> None:
        """Raises `InvalidToken` unless there is a token for each task, if any are asked for."""
        if self.signer is None:
            return
        if not tokens:
            raise InvalidToken("this page needs a status token: ?token=…")
        if len(tokens) > MOST_IDS:
            raise InvalidToken(f"more than {MOST_IDS} status tokens")
        made_by = self.signer()
        asks = Anybody.ANYBODY if self.user is None else self.user(request)
        user = asks if isinstance(asks, Anybody) else user_key(asks)
        opened = {open_token(made_by, token, user) for token in tokens}
        if not opened.issuperset(ids):
            raise InvalidToken("the status token is for another task")

    def agrees(self, said: object) -> bool:
        """Whether what `authorize` has returned means yes: True does, and nothing else.

        A coroutine, a redirect or a query is true, too; none of them is a permission.
        """
        if isinstance(said, bool) or said is None:
            return said is True
        if inspect.iscoroutine(said):
            said.close()
        logger.error(
            "authorize returned %s and nothing is shown; return True or False%s",
            type(said).__name__,
            " (the views of Flask and Django await nothing)" if inspect.isawaitable(said) else "",
        )
        return False


def make_access(
    *,
    authorize: Any = None,
    signed: Any = False,
    user: Any = None,
    awaits: bool = False,
    at_once: bool = False,
) -> Access:
    """Return what a view's options mean.  Raises `ConfigurationError` for what means nothing.

    `awaits`: an async `authorize` can be awaited here.  `at_once`: the framework's own key, which
    ``signed=True`` means, is there already.
    """
    for name, function in (("authorize", authorize), ("user", user)):
        if function is not None and not callable(function):
            raise ConfigurationError(
                f"`{name}` of a status view has to be a function; this is {type(function).__name__}"
            )
        if is_async(function) and not (awaits and name == "authorize"):
            raise ConfigurationError(
                f"`{name}` of a status view is an async function, and would not be awaited here; "
                "give a plain one"
            )
    made_by: Callable[[], Signer] | None = None
    if signed is True and not at_once:
        made_by = signer
    elif signed is not False:
        made = signer(None if signed is True else secrets_of(signed))
        made_by = lambda: made  # noqa: E731
    return Access(
        authorize=authorize,
        signer=made_by,
        user=user,
    )


def secrets_of(signed: Any) -> list[str | bytes]:
    """Return the secrets that `signed` names.  Raises `ConfigurationError` if it names none."""
    listed = (
        signed if isinstance(signed, Iterable) and not isinstance(signed, str | bytes) else None
    )
    found = list(listed) if listed is not None else [signed]
    if not found or not all(isinstance(one, str | bytes) and one for one in found):
        raise ConfigurationError(
            "`signed` of a status view is set and holds no secret; give True, a secret or a list "
            "of secrets, or leave it out to ask for no token"
        )
    return found


def is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object, not whether it is one
    )
