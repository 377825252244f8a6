"""Status tokens: signed words that open one task to whoever holds them.

Signed by Django's own signer, or by itsdangerous with the secret of the Flask app or one of yours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from ..errors import ConfigurationError, InvalidToken
from .status import check_id

__all__ = ("Anybody", "Signer", "open_token", "signer", "status_token", "user_key")

SALT = "jobtastic_ext.status"

#: Seconds that a token is good for, unless said otherwise.
DAY = 86_400

#: The longest token that is looked at, in characters.
LONGEST = 2_048

#: A secret of one's own; of several, the first signs and all open.
Secret = str | bytes | Iterable[str | bytes]


class Signer(Protocol):
    """Signs a list of three, and opens what it has signed."""

    def dumps(self, value: list[Any]) -> str: ...

    def loads(self, token: str) -> Any:
        """Raises ValueError for what it has not signed."""


class Anybody(Enum):
    """For whom a token is, if it is not said."""

    ANYBODY = "anybody"


def status_token(
    result: Any,
    *,
    user: Any = Anybody.ANYBODY,
    max_age: float = DAY,
    secret: Secret | None = None,
) -> str:
    """Return a token that opens the status of this one task, and no other, for `max_age` seconds.

    `result` is an `AsyncResult` or an id.  With `user` (an id, or a model instance with a `pk`) it
    opens it to that user only, and to nobody if it is None or somebody who is not logged in: that
    raises `InvalidToken`.  It is signed with `secret`; without one, with the secret key of the
    Flask app at hand, or else of Django.  It goes into the query: ``…/<id>/status/?token=…``.

    Raises `InvalidTaskId`, and `ConfigurationError` if there is nothing to sign with or `user` is
    neither an id nor has a `pk`.
    """
    task_id = check_id(getattr(result, "id", result))
    owner = None if user is Anybody.ANYBODY else user_key(user)
    if owner is None and user is not Anybody.ANYBODY:
        raise InvalidToken(
            "a status token for nobody: `user` is None or not logged in; leave it out for a token "
            "that opens to whoever holds it"
        )
    return signer(secret).dumps([task_id, owner, round(time.time() + max_age, 3)])


def open_token(made_by: Signer, token: str, user: str | Anybody | None) -> str:
    """Return the id of the task that the token opens to this user.  Raises `InvalidToken`.

    A token for nobody in particular opens only where `user` is `ANYBODY`.
    """
    try:
        if len(token) > LONGEST:
            raise ValueError("too long")
        task_id, owner, until = made_by.loads(token)
        expired = not time.time() < until  # one that is no number is over, too
    except (ValueError, TypeError) as error:
        raise InvalidToken("the status token is not one of ours") from error
    if expired:
        raise InvalidToken("the status token has expired; reload the page")
    if owner is None and user is not Anybody.ANYBODY:
        raise InvalidToken(
            "the status token is for nobody in particular; this page needs one's own"
        )
    if owner is not None and owner != user:
        raise InvalidToken("the status token is for another user")
    return str(task_id)


def user_key(user: Any) -> str | None:
    """Return by what a token knows a user: the primary key of a model instance, or an id.

    None and False, which `is_authenticated and id` may be, are nobody.  Raises
    `ConfigurationError` for what does not tell one user from another: the address in the text of an
    object, say, belongs to the next one when it is gone.
    """
    found = getattr(user, "pk", user)
    if found is None or found is False or found == "":
        return None
    if found is True or (found is user and not isinstance(found, str | int | UUID)):
        raise ConfigurationError(
            f"a user of a status token is known by an id or by a `pk`; {type(user).__name__} is "
            "neither"
        )
    return str(found)


def signer(secret: Secret | None = None) -> Signer:
    """Return what signs: with `secret`, or with the framework's own key.

    Raises `ConfigurationError` if there is nothing to sign with.
    """
    if secret is not None:
        return dangerous([secret] if isinstance(secret, str | bytes) else list(secret))
    flask, settings = sys.modules.get("flask"), sys.modules.get("django.conf")
    if flask is not None and flask.has_app_context():
        config = flask.current_app.config
        keys = [config.get("SECRET_KEY"), *(config.get("SECRET_KEY_FALLBACKS") or ())]
        return dangerous([key for key in keys if key])
    if settings is not None and settings.settings.configured:
        return DjangoSigner()
    raise ConfigurationError(
        "there is no key to sign a status token with: outside of Flask and Django give a secret, "
        "status_token(result, secret=…) and signed=…"
    )


class DjangoSigner:
    """Django's `signing`, with SECRET_KEY and its fallbacks."""

    def dumps(self, value: list[Any]) -> str:
        from django.core import signing

        return str(signing.dumps(value, salt=SALT))

    def loads(self, token: str) -> Any:
        from django.core import signing

        try:
            return signing.loads(token, salt=SALT)
        except signing.BadSignature as error:
            raise ValueError("bad signature") from error


class DangerousSigner:
    """itsdangerous, which comes with Flask."""

    def __init__(self, keys: list[str | bytes]) -> None:
        from itsdangerous import URLSafeSerializer

        # It signs with the last key of a list.
        self._serializer = URLSafeSerializer(
            [key if isinstance(key, bytes) else key.encode() for key in reversed(keys)], salt=SALT
        )

    def dumps(self, value: list[Any]) -> str:
        token = self._serializer.dumps(value)
        return token if isinstance(token, str) else token.decode()

    def loads(self, token: str) -> Any:
        from itsdangerous import BadData

        try:
            return self._serializer.loads(token)
        except BadData as error:
            raise ValueError("bad signature") from error


def dangerous(keys: list[str | bytes]) -> Signer:
    if not keys:
        raise ConfigurationError("status tokens need a key: set SECRET_KEY, or give a secret")
    if any(len(key) < 16 for key in keys):
        raise ConfigurationError(
            "the secret for status tokens is too short to be one; use 16 characters or more, "
            "such as secrets.token_urlsafe() makes"
        )
    try:
        return DangerousSigner(keys)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "status tokens need itsdangerous: pip install 'jobtastic_ext[asgi]'"
        ) from error
