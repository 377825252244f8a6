"""Settings: defaults, where claims live, and all complaints at once."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.namespace import default_namespace, place_of
from jobtastic_ext.settings import (
    NAMES,
    default_store,
    misspelt,
    read_settings,
    shown,
    switched_off,
)


def conf(**settings: Any) -> dict[str, Any]:
    return {"result_backend": "redis://localhost/1", "broker_url": "amqp://", **settings}


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBTASTIC_POLICY", raising=False)
    settings = read_settings(conf())
    assert settings.policy == "jobtastic.yaml"
    assert settings.store == "redis://localhost/1"
    assert re.fullmatch("jobtastic:app:[0-9a-f]{12}", settings.key_prefix)
    assert settings.lease == 30
    assert (settings.store_timeout, settings.publish_timeout) == (0.5, 1)


def test_the_policy_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTASTIC_POLICY", "/etc/reports.yaml")
    assert read_settings(conf()).policy == "/etc/reports.yaml"
    assert read_settings(conf(jobtastic_policy="own.yaml")).policy == "own.yaml"


@pytest.mark.parametrize(
    ("backend", "broker", "store"),
    [
        ("redis://a/1", "redis://b/0", "redis://a/1"),
        ("rpc://", "redis://b/0", "redis://b/0"),
        ("db+sqlite:///r", "redis://b/0;redis://c/0", "redis://b/0"),
        ("sentinel://a:1;sentinel://b:2", "amqp://", "sentinel://a:1;sentinel://b:2"),
        ("file:///results", "filesystem://", "sqlite:///{cwd}/jobtastic.sqlite3"),
        (None, "memory://", "memory://"),
        ("db+postgresql://u:p@h/d", "amqp://", "db+postgresql://u:p@h/d"),
        ("db+mysql+pymysql://h/d", "amqp://", "db+mysql+pymysql://h/d"),
        ("db+postgresql://h/d", "redis://b/0", "redis://b/0"),
        ("django-db", "amqp://", "django-db://default"),
    ],
)
def test_where_claims_live(backend: str | None, broker: str, store: str) -> None:
    assert default_store(backend, broker) == store.format(cwd=Path.cwd())


def test_nowhere_to_put_claims() -> None:
    with pytest.raises(ConfigurationError, match="set jobtastic_store to a URL"):
        default_store("rpc://", "amqp://")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://localhost/0", "redis://u:p@127.0.0.1:6379"),
        ("rediss://h:7/1?ssl_cert_reqs=none", "redis://H:7/1"),
        ("amqp://guest:guest@h//", "pyamqp://h:5672"),
        ("amqp://a;amqp://b", "amqp://b;amqp://a"),
        ("amqps://h:5671//", "amqp://h"),
        ("sentinel://a;sentinel://b", "sentinel://b:26379;sentinel://a:26379/0"),
        ("db+postgresql://u:p@h/d", "db+postgresql+psycopg2://h:5432/d"),
        ("redis+socket:///run/r.sock", "socket:///run/r.sock?virtual_host=0"),
        ("rpc", "rpc://"),
    ],
)
def test_one_place_however_it_is_written(one: str, other: str) -> None:
    assert place_of(one) == place_of(other)


def test_what_tells_deployments_apart() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"broker_url": "amqp://h/staging"},
        {"broker_url": "amqp://other"},
        {"result_backend": "redis://localhost/2"},
        {"result_backend": None},
        {"task_default_queue": "south"},
        {"broker_transport_options": {"global_keyprefix": "a"}},
        {"result_backend_transport_options": {"global_keyprefix": "a"}},
        {"broker_transport_options": {"queue_name_prefix": "a"}},
        {"broker_transport_options": {"master_name": "a"}},
        {"broker_url": "redis+socket:///run/r.sock?virtual_host=1"},
        {"broker_url": "redis+socket:///run/r.sock?virtual_host=2"},
        {"mongodb_backend_settings": {"database": "a"}},
    ]
    names = {default_namespace(conf(**each), "reports") for each in settings}
    assert len(names) == len(settings)
    assert all(len(name) <= 60 for name in names)
    assert default_namespace(conf(), "web") not in names
    assert default_namespace(conf(broker_url=None), "a") == default_namespace(
        conf(broker_url="amqp://guest:guest@localhost//"), "a"
    )
    assert read_settings(conf(jobtastic_key_prefix="own"), "web").key_prefix == "own"


def test_ssl_settings_of_the_backend_are_the_stores() -> None:
    settings = read_settings(conf(redis_backend_use_ssl={"ssl_cert_reqs": "none"}))
    assert settings.store == "rediss://localhost/1"
    assert settings.store_options == {"ssl_cert_reqs": "none"}


def test_what_the_driver_of_the_results_is_given_the_stores_is_too() -> None:
    args = {"connect_args": {"sslmode": "require"}}
    database = {"broker_url": "amqp://", "result_backend": "db+postgresql://h/d"}
    settings = read_settings(conf(**database, database_engine_options={**args, "echo": True}))
    assert settings.store_options == args
    other = read_settings(conf(database_engine_options=args, jobtastic_store="db+mysql://h/d"))
    assert other.store_options == {}


def test_all_complaints_at_once() -> None:
    wrong = conf(
        jobtastic_lease=0,
        jobtastic_store_timeout="fast",
        jobtastic_key_prefix="a b",
        jobtastic_policy=7,
        jobtastic_store="localhost",
    )
    with pytest.raises(ConfigurationError) as caught:
        read_settings(wrong)
    for name in ("lease", "store_timeout", "key_prefix", "policy", "store is"):
        assert f"jobtastic_{name}" in str(caught.value)


def loaded(namespace: str | None, **settings: Any) -> Any:
    """Celery's settings, read from an object as a project's module is."""
    app = Celery("settings", set_as_current=False)
    app.config_from_object(SimpleNamespace(**settings), namespace=namespace)
    app.conf.get("task_always_eager")  # read now: until then nothing is there
    return app.conf


@pytest.mark.parametrize(
    ("namespace", "wrong", "nearest"),
    [
        (None, "jobtastic_leese", "jobtastic_lease"),
        (None, "jobtastic_publish_timout", "jobtastic_publish_timeout"),
        # Without a namespace Celery reads lower case only.
        (None, "JOBTASTIC_LEASE", "jobtastic_lease"),
        ("CELERY", "CELERY_JOBTASTIC_LEESE", "CELERY_JOBTASTIC_LEASE"),
        ("CELERY", "CELERY_jobtastic_lease", "CELERY_JOBTASTIC_LEASE"),
        ("CELERY", "JOBTASTIC_LEASE", "CELERY_JOBTASTIC_LEASE"),
        ("celery", "celery_jobtastic_leese", "celery_jobtastic_lease"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(
    namespace: str | None, wrong: str, nearest: str
) -> None:
    settings = loaded(namespace, **{wrong: 7})
    assert settings.get("jobtastic_lease") is None, "Celery itself does not find it"
    (told,) = misspelt(settings)
    assert f"`{wrong}` is not known" in told
    assert told.endswith(f"did you mean `{nearest}`?")


def test_settings_that_are_read_are_not_complained_of() -> None:
    known = [f"jobtastic_{name}" for name in NAMES]
    for namespace, name in ((None, "{}"), ("CELERY", "CELERY_{}"), ("celery", "celery_{}")):
        upper = namespace == "CELERY"
        written = {name.format(n.upper() if upper else n): 1 for n in known}
        settings = loaded(namespace, JOBTASTIC_REPORTS=1, **written)  # one of the project's own
        assert misspelt(settings) == []
        assert all(settings.get(n) == 1 for n in known)


def test_the_list_of_settings_is_whole() -> None:
    asked: set[str] = set()

    class Asked(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return super().get(key, default)

    read_settings(Asked(conf()))
    switched_off(Asked(conf()))
    assert {name for name in asked if name.startswith("jobtastic_")} == {
        f"jobtastic_{n}" for n in NAMES
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://:secret@a:6379/1?password=secret", "redis://a:6379/1"),
        ("rediss://me:sec@ret@a/1", "rediss://a/1"),
        ("sentinel://:secret@a:1;sentinel://:secret@b:2", "sentinel://a:1;sentinel://b:2"),
        ("sentinel://:secret@a:1;:secret@b:2", "sentinel://b:2"),
        ("sqlite:////var/lib/claims.sqlite3", "sqlite:////var/lib/claims.sqlite3"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, told: str) -> None:
    assert shown(url) == told
