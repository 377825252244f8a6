"""`django://alias` in a Django project with a worker: claims live where its CACHES say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobtastic_ext.stores import open_store
from tests.integration.callers import Callers
from tests.integration.conftest import Project, wait_until

pytest.importorskip("django")

BACKENDS = "django.core.cache.backends"
PROCESSES, THREADS = 4, 10


@pytest.fixture(params=["redis", "database"])
def place(
    request: pytest.FixtureRequest, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Where the claims are, as the project's settings have it."""
    databases = {}
    if request.param == "redis":
        place = redis_server.url(2)
        cache = {"BACKEND": f"{BACKENDS}.redis.RedisCache", "LOCATION": place}
    else:
        pytest.importorskip("psycopg")
        server = request.getfixturevalue("postgres")
        place = f"db+{server.url}"
        cache = {"BACKEND": f"{BACKENDS}.db.DatabaseCache", "LOCATION": "cache"}
        databases["default"] = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "test",
            "USER": "postgres",
            "HOST": "127.0.0.1",
            "PORT": server.port,
        }
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.integration.django_shop")
    monkeypatch.setenv("SHOP_CACHES", json.dumps({"claims": cache}))
    monkeypatch.setenv("SHOP_DATABASES", json.dumps(databases))
    return place


def test_a_herd_and_a_killed_worker(
    start_project: Callable[..., Project], place: str, unique: str
) -> None:
    shop = start_project(jobtastic_store="django://claims")
    doomed = shop.worker(concurrency=2)
    with Callers(shop.conf, PROCESSES, THREADS) as callers:
        answers = callers.call("reports.cached", unique)
        assert len({task_id for task_id, _ in answers}) == 1
        assert [got["x"] for _, got in answers] == [unique] * PROCESSES * THREADS
        assert shop.runs("cached", unique) == 1

        other = f"{unique}-other"
        waiting = callers.call("reports.cached", other, 60, wait="no")
        (task_id,) = {task_id for task_id, _ in waiting}
        wait_until(lambda: shop.runs("cached", other) == 1)
        doomed.kill()
        shop.worker(concurrency=2)

        def served() -> bool:
            again = callers.call("reports.cached", other, 0, wait="no")
            assert {task_id for task_id, _ in again} == {task_id}
            return shop.runs("cached", other) > 1

        wait_until(served)
        assert shop.app.AsyncResult(task_id).get(timeout=60)["x"] == other
        assert shop.runs("cached", other) == 2

    store = open_store(place, timeout=10)
    pages = store.pages(shop.conf["jobtastic_key_prefix"])
    assert sum(len(page) for page in pages) == 2
    store.close()
