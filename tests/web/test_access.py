"""What decides who may see is never guessed: an option that means nothing is a mistake.

A view that Celery's own users write with ``AsyncResult`` guards itself; these are as strict.
"""

from __future__ import annotations

import functools
import uuid
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured

from jobtastic_ext.errors import ConfigurationError, InvalidToken
from jobtastic_ext.web import status_token
from jobtastic_ext.web.asgi import status_app
from jobtastic_ext.web.flask import blueprint
from tests.web.sites import SECRET, configure_django, site
from tests.web.test_tokens import token_for

REFUSED = (ConfigurationError, ImproperlyConfigured)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Celery:
    app = Celery("access", set_as_current=False)
    folder = tmp_path_factory.mktemp("results")
    app.conf.update(broker_url="memory://", result_backend=f"file://{folder}")
    app.backend.store_result("secret", "what nobody may see", "SUCCESS")
    return app


def make(framework: str, app: Celery, **options: Any) -> object:
    if framework == "django":
        configure_django()
        from jobtastic_ext.web.django import view_of

        return view_of({"app": app, **options})
    return {"flask": blueprint, "asgi": status_app}[framework](app, **options)


async def nobody(request: Any, task_id: str) -> bool:
    return False


async def someone(request: Any) -> int:
    return 7


class Nobody:
    async def __call__(self, request: Any, task_id: str) -> bool:
        return False


ASYNC = [nobody, Nobody(), functools.partial(nobody), functools.partial(Nobody())]


@pytest.mark.parametrize("number", range(len(ASYNC)))
def test_an_async_authorize_is_awaited_or_refused_at_the_start(
    framework: str, app: Celery, number: int
) -> None:
    if framework == "asgi":
        with site(framework, app, authorize=ASYNC[number]) as pages:
            assert pages.status("secret").status == 403
        return
    with pytest.raises(REFUSED, match="async"):
        make(framework, app, authorize=ASYNC[number])


def test_an_async_user_is_refused(framework: str, app: Celery) -> None:
    with pytest.raises(REFUSED, match="async"):
        make(framework, app, signed=SECRET, user=someone)


def nothing() -> None:
    return None


@pytest.mark.parametrize(
    "said",
    [lambda: nobody(None, ""), lambda: object(), lambda: "no", lambda: 1, nothing],
    ids=["coroutine", "object", "text", "number", "nothing"],
)
def test_what_is_not_true_is_no_permission(
    framework: str, app: Celery, said: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as the redirect of a `login_required` around the function, which is true to an `if`."""
    with site(framework, app, authorize=lambda *_: said()) as pages:
        for reply in (pages.status("secret"), pages.many(["secret"])):
            assert reply.status == 403
            assert b"nobody may see" not in reply.body
    if framework == "flask":
        assert ("return True or False" in caplog.text) == (said.__name__ != "nothing")


@pytest.mark.parametrize("signed", [None, "", b"", [], (), [""], [None], 0, 1], ids=repr)
def test_signed_that_is_set_and_empty(framework: str, app: Celery, signed: Any) -> None:
    with pytest.raises(REFUSED, match="signed"):
        make(framework, app, signed=signed)


def test_secrets_that_can_be_read_once_only(framework: str, app: Celery) -> None:
    token = status_token("secret", secret=SECRET)
    with site(framework, app, signed=(one for one in [SECRET])) as pages:
        for _ in range(3):
            assert pages.status("secret", token=token).status == 200
            assert pages.status("secret").status == 403


@pytest.mark.parametrize("name", ["authorize", "user"])
def test_what_is_no_function_is_refused(framework: str, app: Celery, name: str) -> None:
    with pytest.raises(REFUSED, match=name):
        make(framework, app, signed=SECRET, **{name: 7})


def test_a_token_for_nobody_in_particular(framework: str, app: Celery) -> None:
    """Where users are asked for it opens to none of them, known or not."""
    token = token_for(framework, "secret")
    for user in (7, None):
        with site(framework, app, signed=True, user=lambda _, user=user: user) as pages:
            assert pages.status("secret", token=token).status == 403
    with site(framework, app, signed=True) as pages:
        assert pages.status("secret", token=token).status == 200


class Anonymous:
    """As in Django: a user who is nobody has no primary key."""

    pk = None


@pytest.mark.parametrize("user", [None, "", Anonymous()], ids=["none", "empty", "anonymous"])
def test_no_token_is_made_for_somebody_who_is_nobody(user: Any) -> None:
    with pytest.raises(InvalidToken, match="nobody"):
        status_token(str(uuid.uuid4()), user=user, secret=SECRET)


class Bare:
    """A user without a `pk`, as of Flask-Login or SQLAlchemy: its text is an address."""


@pytest.mark.parametrize("user", [Bare(), True, b"7", (7,)], ids=lambda u: type(u).__name__)
def test_no_token_is_made_for_who_cannot_be_told_from_others(user: Any) -> None:
    with pytest.raises(ConfigurationError, match="neither"):
        status_token("secret", user=user, secret=SECRET)


def test_who_cannot_be_told_from_others_is_shown_nothing(framework: str, app: Celery) -> None:
    user = Bare()
    token = token_for(framework, "secret", user=str(user))
    with site(framework, app, signed=True, user=lambda _: user) as pages:
        assert pages.status("secret", token=token).status == 503


def test_false_is_nobody(framework: str, app: Celery) -> None:
    """As ``user.is_authenticated and user.pk`` says it."""
    with pytest.raises(InvalidToken, match="nobody"):
        status_token("secret", user=False, secret=SECRET)
    token = token_for(framework, "secret", user="False")
    with site(framework, app, signed=True, user=lambda _: False) as pages:
        assert pages.status("secret", token=token).status == 403


def test_a_time_that_is_no_number_opens_nothing(framework: str, app: Celery) -> None:
    token = token_for(framework, "secret", max_age=float("nan"))
    with site(framework, app, signed=True) as pages:
        assert pages.status("secret", token=token).status == 403
