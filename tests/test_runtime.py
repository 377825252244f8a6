"""Whether two URLs name one server."""

from __future__ import annotations

import pytest

from jobtastic_ext.runtime import server_of


@pytest.mark.parametrize("scheme", ["amqp", "pyamqp", "amqps", "memcached"])
def test_servers_without_a_port_in_their_url_are_told_apart(scheme: str) -> None:
    assert server_of(f"{scheme}://guest@localhost//") != server_of("redis://localhost/2")


def test_one_server_is_known_under_both_its_names() -> None:
    assert server_of("redis://localhost/0") == server_of("redis://:secret@127.0.0.1:6379/2")
