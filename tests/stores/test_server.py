"""The server that ends with the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.testing import server as module
from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, ServerDidNotStart, free_port
from tests.servers import wait_until
from tests.stores.redis_contract import direct

STARTER = """
import os, signal, sys, threading, time
from jobtastic_ext.testing.server import EmbeddedServer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
server = EmbeddedServer()
if sys.argv[1] == "thread":  # the thread that starts it ends, and the server lives on
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
else:
    server.start()
child = 0
if sys.argv[1] == "fork":  # a child that holds the same pipe, and survives
    child = os.fork()
    if not child:
        os.close(1)
        time.sleep(60)
        os._exit(0)
print(server.pid, server.port, server._folder, child, flush=True)
time.sleep(60)
"""


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_serves_and_stops() -> None:
    with EmbeddedServer() as server:
        pid, folder = server.pid, server._folder
        assert server.url(3) == f"redis://{LOOPBACK}:{server.port}/3"
        with redis.Redis.from_url(server.url(3)) as client:
            assert client.info("server")["process_id"] == pid
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("bind") == {"bind": LOOPBACK}
        assert folder is not None
        assert str(pid) in repr(server)
    assert is_gone(pid)
    assert not os.path.exists(folder)
    assert server.pid == 0
    server.stop()


@pytest.mark.parametrize("way", ["plain", "thread", "fork"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_does_not_outlive_its_starter(way: str, end: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    child = 0
    try:
        assert starter.stdout is not None
        pid, _, folder, child_ = starter.stdout.readline().split()
        child = int(child_)
        time.sleep(0.3)
        assert not is_gone(int(pid))
        starter.send_signal(end)
        starter.wait(60)
        wait_until(lambda: is_gone(int(pid)))
        wait_until(lambda: not os.path.exists(folder))
        if child:
            assert not is_gone(child)
    finally:
        starter.kill()
        starter.communicate()
        if child:
            os.kill(child, signal.SIGKILL)


def test_kill_and_restart() -> None:
    with EmbeddedServer() as server, direct(server.port) as client:
        client.set("key", "value")
        pid, port = server.pid, server.port
        server.kill()
        assert is_gone(pid)
        assert server.pid == 0
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        server.restart()
        assert server.port == port
        assert server.pid != pid
        assert client.get("key") is None
        server.restart()
        assert client.ping()


def test_a_stopped_process_is_ended_too() -> None:
    with EmbeddedServer() as server:
        os.kill(server.pid, signal.SIGSTOP)
        pid = server.pid
    assert is_gone(pid)


def test_a_server_that_was_killed_by_another_starts_again() -> None:
    with EmbeddedServer() as server, direct(server.port) as client:
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        assert client.ping()


def test_a_port_that_was_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer() as other:
        ports = iter([other.port, other.port, free_port()])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with EmbeddedServer() as server:
            assert server.port != other.port
            assert server.pid != other.pid


def test_a_port_of_ones_own_that_is_taken() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerDidNotStart, match=r"(?s)did not answer on .*[Ii]n use"):
            EmbeddedServer(port=port).start()


def test_a_configuration_that_it_does_not_accept() -> None:
    server = EmbeddedServer(config="nonsense yes")
    with pytest.raises(ServerDidNotStart, match=r"(?s)its log:.*nonsense"):
        server.start()
    assert server._folder is None
    assert server.pid == 0


def test_a_binary_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there, or cannot be executed"):
        EmbeddedServer(tmp_path / "valkey")


def test_a_binary_that_cannot_run(tmp_path: Path) -> None:
    binary = tmp_path / "valkey"
    binary.write_bytes(b"\x7fELF nonsense")
    binary.chmod(0o700)
    with pytest.raises(ServerDidNotStart):
        EmbeddedServer(binary).start()


def test_no_server_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match=r"jobtastic_ext\[demo\]"):
        EmbeddedServer()


def test_a_forked_child_does_not_stop_it() -> None:
    with EmbeddedServer() as server, direct(server.port) as client:
        pid = os.fork()
        if not pid:
            server.stop()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        time.sleep(0.3)
        assert client.ping()
