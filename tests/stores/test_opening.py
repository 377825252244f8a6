"""A URL opens a store, and its driver is imported only then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.stores import open_store


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no URL; there are db+mariadb://, db+mysql://"),
        ("redis", "no URL; there are db+mariadb://, db+mysql://"),
        ("mysql://h/db", "unknown scheme 'mysql'; there are db+mariadb://, db+mysql://"),
        ("db+oracle://h/db", "unknown scheme 'db+oracle'; there are db+mariadb://"),
        ("db+postgresql+nothing://h/db", "no such database"),
        ("db+postgresql://u:secret@h:port/db", "the URL of the database cannot be read"),
        ("db+postgresql+pg8000://h/db", "needs a driver that is not installed: pg8000"),
        ("memcached://", "names no server"),
        ("memcached://host:port", "'host:port' names no server"),
        ("sqlite://", "needs the path of a file"),
        ("sqlite:///", "needs the path of a file"),
        ("sqlite://relative", "needs the path of a file"),
        ("sqlite:///:memory:", "use memory://"),
    ],
)
def test_urls_that_no_store_serves(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://", "sqlite:////tmp/claims"])
def test_options_that_nobody_takes(url: str) -> None:
    with pytest.raises(ConfigurationError, match="takes no options, but was given master_name"):
        open_store(url, master_name="m")


@pytest.mark.parametrize("url", ["memory://", "sqlite:////tmp/never-used"])
def test_no_driver_is_imported_for_another_store(url: str) -> None:
    script = (
        "import sys; from jobtastic_ext.stores import open_store; before = set(sys.modules)\n"
        f"open_store({url!r}); assert 'redis' not in sys.modules\n"
        "assert 'jobtastic_ext.stores.redis' not in sys.modules"
    )
    package_alone = (
        "import sys, types; package = types.ModuleType('jobtastic_ext')\n"
        "package.__path__ = ['jobtastic_ext']; sys.modules['jobtastic_ext'] = package\n"
    )
    subprocess.run([sys.executable, "-c", package_alone + script], check=True, timeout=180)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if "jobtastic_ext.redis_client" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "jobtastic_ext.stores.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.connection", None)
    with pytest.raises(ConfigurationError, match=r"not installed: redis"):
        open_store("redis://h")
