from __future__ import annotations

import contextlib
import functools
import gc
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from jobtastic_ext.errors import ConfigurationError, StoreError, StoreUnavailable
from jobtastic_ext.resilience.deadline import hurried
from jobtastic_ext.stores import open_store
from jobtastic_ext.stores.redis import RedisStore
from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, free_port
from tests.servers import AT_ONCE, SilentServer, closed_port, need, wait_until
from tests.stores.contract import JOINED, PATIENCE, call, together
from tests.stores.redis_contract import RedisContract, direct

TIMEOUT = 0.3

#: What a call may take beyond its timeout on a busy machine.
SLACK = 5.0


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that the test may maltreat."""
    with EmbeddedServer() as server:
        yield server


@contextlib.contextmanager
def opened(url: str, timeout: float = PATIENCE, **options: Any) -> Iterator[RedisStore]:
    store = RedisStore(url, timeout=timeout, **options)
    yield store
    store.close()


#: For what is about the time that a call takes.
hasty = functools.partial(opened, timeout=TIMEOUT)


@contextlib.contextmanager
def unavailable(message: str, at_least: float = 0) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=message) as caught:
        yield
    took = time.monotonic() - began
    assert at_least <= took < TIMEOUT + SLACK
    assert isinstance(caught.value.__cause__, redis.RedisError)


class TestRedisStore(RedisContract):
    @pytest.fixture
    def url(self, redis_server: EmbeddedServer) -> str:
        return redis_server.url(5)

    @pytest.fixture
    def client(self, redis_server: EmbeddedServer) -> Iterator[redis.Redis]:
        with direct(redis_server.port, db=5) as client:
            yield client


@pytest.mark.parametrize(("kilobytes", "least", "most"), [(0, 2, 20), (200, 100, 500)])
def test_the_larger_the_claims_the_fewer_are_asked_for_at_once(
    own_server: EmbeddedServer, kilobytes: int, least: int, most: int
) -> None:
    """They hold arguments where these may change until the run begins."""
    with opened(own_server.url(0)) as store, direct(own_server.port) as client:
        for n in range(500):
            arguments = "x" * kilobytes * 1000
            store.apply(f"k:{n}", call("a"))
            store.apply(f"k:{n}", replace(call("b"), arguments=arguments))
        client.config_resetstat()
        assert sum(len(page) for page in store.pages("k:")) == 500
        assert least <= client.info("commandstats")["cmdstat_mget"]["calls"] <= most


# Time


def test_nobody_listens() -> None:
    with hasty(f"redis://{LOOPBACK}:{closed_port()}") as store, unavailable("refused"):
        store.apply("k", call("a"))


@pytest.mark.parametrize("credentials", ["", ":secret@", "user:secret@"])
@pytest.mark.parametrize("method", ["apply", "read", "ping"])
def test_a_server_that_never_answers(credentials: str, method: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"apply": ("k", call("a")), "read": ("k",), "ping": ()}
    with SilentServer() as silent:
        url = f"redis://{credentials}{LOOPBACK}:{silent.port}/3"
        with hasty(url) as store:
            for _ in range(2):
                with unavailable(r"did not answer within 0\.3 s", at_least=TIMEOUT - 0.05):
                    getattr(store, method)(*arguments[method])


def test_a_server_that_does_not_even_accept() -> None:
    with (
        SilentServer(accepting=False) as silent,
        hasty(silent.url()) as store,
        unavailable(r"did not answer within 0\.3 s", at_least=TIMEOUT - 0.05),
    ):
        store.ping()


def test_a_tls_server_that_never_answers() -> None:
    with (
        SilentServer() as silent,
        hasty(silent.url().replace("redis:", "rediss:")) as store,
        unavailable("did not answer"),
    ):
        store.ping()


def test_who_is_in_a_hurry_does_not_wait_for_the_look_up_of_a_name(
    redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, usual = threading.Event(), socket.getaddrinfo

    def slow(host: str, *args: Any, **options: Any) -> Any:
        assert found.wait(SLACK + 5)
        return usual(LOOPBACK, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with hasty(f"redis://store.test:{redis_server.port}/5") as store:
        with hurried(True), unavailable("did not answer", at_least=TIMEOUT - 0.05):
            store.ping()
        threading.Timer(TIMEOUT + 0.1, found.set).start()
        store.ping()  # with patience


def test_many_threads_on_a_silent_server_do_not_queue() -> None:
    def work(_: int) -> Any:
        with unavailable("did not answer"):
            store.ping()

    with SilentServer() as silent, hasty(silent.url()) as store:
        together(20, work)


def test_a_stopped_server_and_what_it_answers_later(own_server: EmbeddedServer) -> None:
    with opened(own_server.url(), timeout=3) as store:  # in which the call is certainly sent
        store.apply("k", call("a"))
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            with unavailable("did not answer"):
                store.apply("late", call("x"))
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        # The answer to that call must not be taken for the answer to this one.
        assert store.apply("k", call("b")).id == "a"
        assert store.apply("late", call("y")).id == "x"


def test_a_restarted_server_costs_no_call(own_server: EmbeddedServer) -> None:
    with opened(own_server.url()) as store:
        together(5, lambda n: store.apply(f"k{n}", call("a")))
        own_server.restart()
        assert [a.word for a in together(5, lambda n: store.apply(f"k{n}", call("a")))] == [
            "claimed"
        ] * 5


@pytest.mark.parametrize("polls", [True, False], ids=["poll", "eventlet takes poll away"])
def test_connections_that_an_idle_timeout_has_closed(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, polls: bool
) -> None:
    if not polls:
        monkeypatch.delattr(select, "poll")
    with opened(own_server.url()) as store, direct(own_server.port) as client:
        for _ in range(3):
            store.ping()
            client.client_kill_filter(_type="normal", skipme=True)
            wait_until(lambda: len(client.client_list()) == 1)


def test_an_exception_from_outside_between_question_and_answer(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SoftTimeLimit(BaseException):
        pass

    def strike(*_: object, **__: object) -> None:
        raise SoftTimeLimit

    with opened(own_server.url()) as store:
        store.apply("k", call("a"))
        with monkeypatch.context() as patch:
            patch.setattr(redis.connection.AbstractConnection, "read_response", strike)
            with pytest.raises(SoftTimeLimit):
                store.apply("other", call("x"))
        assert store.apply("k", call("b")).id == "a"


# Refusals


def test_a_wrong_password() -> None:
    with EmbeddedServer(config="requirepass right") as server:
        url = f"redis://:wr%2Fong@{LOOPBACK}:{server.port}/0"
        with opened(url) as store:
            with pytest.raises(StoreError, match="check the user name and password") as caught:
                store.ping()
            assert not isinstance(caught.value, StoreUnavailable)
            shown = f"{caught.value} {caught.value!r} {store!r} {store.address}"
            assert "ong" not in shown.replace("wrong", "")
        with (
            opened(f"redis://{LOOPBACK}:{server.port}/0") as store,
            pytest.raises(StoreError, match=r"(?i)authentication required"),
        ):
            store.ping()
        with opened(f"redis://:right@{LOOPBACK}:{server.port}/0") as store:
            store.ping()
        with opened(f"redis://{LOOPBACK}:{server.port}/0", password="right") as store:
            store.ping()


def test_a_user_without_rights(own_server: EmbeddedServer) -> None:
    with direct(own_server.port) as client:
        client.execute_command("ACL SETUSER limited on >pw ~other:* +@all")
    url = own_server.url().replace("//", "//limited:pw@")
    with opened(url) as store, pytest.raises(StoreError, match="check the user name") as caught:
        store.apply("k", call("a"))
    assert not isinstance(caught.value, StoreUnavailable)


def test_no_memory_left(own_server: EmbeddedServer) -> None:
    with opened(own_server.url()) as store, direct(own_server.port) as client:
        store.apply("k", call("a"))
        client.config_set("maxmemory", "1")
        with unavailable("memory"):
            store.apply("other", call("a"))
        assert store.apply("k", call("b")).word in JOINED


def test_a_replica_refuses_to_write() -> None:
    with (
        EmbeddedServer(config=AT_ONCE) as master,
        EmbeddedServer(config=f"replicaof {LOOPBACK} {master.port}") as replica,
    ):
        with direct(replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        with opened(replica.url()) as store, unavailable("replica"):
            store.apply("k", call("a"))


def test_a_server_busy_with_a_script(own_server: EmbeddedServer) -> None:
    with opened(own_server.url()) as store, direct(own_server.port) as client:
        store.apply("k", call("a"))
        client.config_set("lua-time-limit", "20")

        def spin() -> None:
            with direct(own_server.port) as other, contextlib.suppress(redis.ResponseError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=spin)
        thread.start()

        def is_busy() -> bool:
            try:
                return not client.ping()
            except redis.ResponseError as error:
                return "BUSY" in str(error)

        wait_until(is_busy)
        with unavailable("BUSY"):
            store.apply("k", call("b"))
        client.script_kill()
        thread.join()
        assert store.apply("k", call("b")).word in JOINED


def test_a_server_without_free_connections(own_server: EmbeddedServer) -> None:
    with opened(own_server.url()) as store, direct(own_server.port) as client:
        client.config_set("maxclients", "1")
        with unavailable("cannot serve"):
            store.ping()
        client.config_set("maxclients", "100")
        store.ping()


# Opening


def test_nothing_connects_before_it_is_used() -> None:
    with SilentServer() as silent:
        open_store(silent.url()).close()
        assert silent._taken == []


def test_a_socket_of_the_file_system(tmp_path: Any) -> None:
    path = f"/tmp/jobtastic-{uuid.uuid4().hex[:8]}.sock"
    with EmbeddedServer(config=f"unixsocket {path}"):
        for url in (
            f"redis+socket://{path}?virtual_host=3",
            f"socket://{path}?db=3",
            f"unix://{path}?db=3",
        ):
            with opened(url) as store:
                assert store.apply("k", call("a")).id == "a"
                assert store.address == f"unix://{path}?db=3"


def test_what_the_result_backends_url_may_carry(redis_server: EmbeddedServer) -> None:
    query = (
        "socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=true&max_connections=1"
        "&health_check_interval=1&decode_responses=true&protocol=3&client_name=me"
    )
    with opened(f"{redis_server.url(5)}?{query}") as store:
        key = uuid.uuid4().hex
        answers = together(8, lambda n: store.apply(key, call(f"t{n}")))
        assert [a.word for a in answers].count("claimed") == 1
        assert store.read(key) is not None


def test_many_threads_are_not_refused_a_connection(redis_server: EmbeddedServer) -> None:
    with opened(redis_server.url(5)) as store:
        key = uuid.uuid4().hex
        together(150, lambda n: store.apply(key, call(f"t{n}")))


@pytest.mark.parametrize(
    ("given", "meant"),
    [("CERT_REQUIRED", "required"), ("CERT_NONE", "none"), ("optional", "optional")],
)
def test_celerys_spelling_of_tls(given: str, meant: str) -> None:
    with opened(f"rediss://h?ssl_cert_reqs={given}&ssl_ca_certs=%2Fa%2Fb") as store:
        assert store.address == "rediss://h:6379/0"
        servers = store._servers()
        options = servers._pool.connection_kwargs  # type: ignore[attr-defined]
        assert (options["ssl_cert_reqs"], options["ssl_ca_certs"]) == (meant, "/a/b")
        assert issubclass(
            servers._pool.connection_class,  # type: ignore[attr-defined]
            redis.SSLConnection,
        )


@pytest.mark.parametrize("tls", [{"ssl_cert_reqs": "CERT_NONE"}, {"ssl_cert_reqs": 0}])
def test_celerys_redis_backend_use_ssl(tls: dict[str, Any]) -> None:
    with opened("redis://h/1", ssl=tls) as store:
        assert store.address == "rediss://h:6379/1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h?nonsense=1", "unexpected keyword argument 'nonsense'"),
        ("redis://:se/cret@h", "special characters"),
        ("redis://h:port", "cannot be understood"),
        ("rediss://h?ssl_cert_reqs=MAYBE", "MAYBE"),
        ("sentinel://h:1;sentinel://h:2", "names no master"),
        ("redis+cluster://h:1/3", "only database 0"),
    ],
)
def test_urls_that_make_no_sense(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_store(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_is_left_open(own_server: EmbeddedServer) -> None:
    with opened(own_server.url()) as store, direct(own_server.port) as client:
        together(4, lambda n: store.apply(f"k{n}", call("a")))
        assert len(client.client_list()) > 1
        store.close()
        wait_until(lambda: len(client.client_list()) == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def test_a_server_that_speaks_tls(tmp_path: Any) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    command = (
        f"{need('openssl')} req -x509 -newkey rsa:2048 -nodes -days 1 -keyout {key} "
        f"-out {certificate} -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost,IP:{LOOPBACK}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    port = free_port()
    config = (
        f"tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\n"
        f"tls-ca-cert-file {certificate}\ntls-auth-clients no"
    )
    with EmbeddedServer(need("redis-server"), config=config):
        good = f"rediss://{LOOPBACK}:{port}/1?ssl_cert_reqs="
        with opened(f"{good}CERT_REQUIRED&ssl_ca_certs={certificate}") as store:
            assert store.apply("k", call("a")).word == "claimed"
        with opened(f"{good}CERT_NONE") as store:
            assert store.apply("k", call("b")).word in JOINED
        with opened(f"{good}CERT_REQUIRED") as store, unavailable("(?i)certificate verify failed"):
            store.ping()
        options = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": certificate}
        with opened(f"redis://localhost:{port}/1", ssl=options) as store:
            assert store.apply("k", call("c")).word in JOINED
