"""What Django's CACHES and DATABASES name is opened by its servers, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.stores import open_store, tables_of

django = pytest.importorskip("jobtastic_ext.stores.django")

CACHE, DB = "django.core.cache.backends", "django.db.backends"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the settings that Django would have in a project."""

    def have(caches: dict[str, Any], databases: dict[str, Any]) -> None:
        found = SimpleNamespace(CACHES=caches, DATABASES=databases)
        monkeypatch.setattr(django, "settings", found)

    return have


@pytest.mark.parametrize(
    ("cache", "place"),
    [
        ({"BACKEND": f"{CACHE}.redis.RedisCache", "LOCATION": "redis://h:1/2"}, "redis://h:1/2"),
        (
            {
                "BACKEND": f"{CACHE}.redis.RedisCache",
                "LOCATION": ["redis://a", "redis://b"],
                "OPTIONS": {"db": 3, "username": "u", "password": "p:w"},
            },
            "redis://u:p%3Aw@a/3",
        ),
        (
            {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": "redis://h/1",
                "OPTIONS": {"PASSWORD": "p"},
            },
            "redis://:p@h/1",
        ),
        (
            {"BACKEND": f"{CACHE}.memcached.PyMemcacheCache", "LOCATION": "a:1;b:2"},
            "memcached://a:1,b:2",
        ),
        (
            {"BACKEND": f"{CACHE}.memcached.PyLibMCCache", "LOCATION": ["a:1", "b:2"]},
            "memcached://a:1,b:2",
        ),
        ({"BACKEND": f"{CACHE}.locmem.LocMemCache", "LOCATION": "snow"}, "memory://snow"),
        (
            {"BACKEND": f"{CACHE}.db.DatabaseCache", "LOCATION": "t"},
            "db+postgresql://u:p%40w@h:5433/shop",
        ),
    ],
)
def test_a_cache_by_its_servers(
    configure: Callable[..., None], cache: dict[str, Any], place: str
) -> None:
    database = {
        "ENGINE": f"{DB}.postgresql",
        "NAME": "shop",
        "USER": "u",
        "PASSWORD": "p@w",
        "HOST": "h",
        "PORT": "5433",
    }
    configure({"own": cache}, {"default": database})
    assert django.named("django://own") == (place, {})


@pytest.mark.parametrize(
    ("database", "place"),
    [
        (
            {
                "ENGINE": f"{DB}.postgresql",
                "NAME": "d",
                "HOST": "/run/pg",
                "OPTIONS": {"sslmode": "require", "pool": True},
            },
            ("db+postgresql:///d", {"connect_args": {"sslmode": "require", "host": "/run/pg"}}),
        ),
        (
            {"ENGINE": "django.contrib.gis.db.backends.mysql", "NAME": "d", "USER": "u"},
            ("db+mysql://u@/d", {}),
        ),
        ({"ENGINE": f"{DB}.sqlite3", "NAME": "/srv/db"}, ("sqlite:////srv/db.jobtastic", {})),
    ],
)
def test_a_database(
    configure: Callable[..., None], database: dict[str, Any], place: tuple[str, dict[str, Any]]
) -> None:
    configure({}, {"default": database})
    assert django.named("django-db://default") == place


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("django://files", r"CACHES\['files'\] is .*FileBasedCache, in which claims cannot"),
        ("django://none", r"CACHES has no 'none'; there are files, default"),
        ("django-db://default", r"DATABASES\['default'\] is .*oracle; claims can be kept in"),
        ("django-db://none", r"DATABASES has no 'none'; there are default"),
    ],
)
def test_what_is_refused(configure: Callable[..., None], url: str, message: str) -> None:
    caches = {
        "files": {"BACKEND": f"{CACHE}.filebased.FileBasedCache", "LOCATION": "/tmp"},
        "default": {"BACKEND": f"{CACHE}.dummy.DummyCache"},
    }
    oracle = {"default": {"ENGINE": f"{DB}.oracle", "NAME": "d"}}
    configure(caches, oracle)
    with pytest.raises(ConfigurationError, match=message):
        open_store(url)


def test_it_opens(configure: Callable[..., None]) -> None:
    caches = {"default": {"BACKEND": f"{CACHE}.locmem.LocMemCache", "LOCATION": "opens"}}
    databases = {"default": {"ENGINE": f"{DB}.mysql", "NAME": "d", "HOST": "h"}}
    configure(caches, databases)
    assert repr(open_store("django://default")) == "<MemoryStore>"
    assert "ENGINE = InnoDB" in tables_of("django-db://default")
    assert repr(open_store("django-db://default")) == "<SQLStore h/d>"
