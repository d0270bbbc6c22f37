"""Redis as managed services offer it: TLS, users with a password, numbered databases, cluster mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from chassis.lifecycle.components import readiness
from chassis.redis import MultiplexedRedis, Redis, RedisCheck, check, multiplexed, pooled
from chassis.settings import RedisSection
from chassis.testing import free_port

from libs.chassis.tests.certificates import Authority
from libs.chassis.tests.own_servers import redis_server

# "default" is off, as in managed services that want a user's name.
USERS = ["--user", "default", "off", "--user", "argosy", "on", ">p@ss:/word", "~*", "&*", "+@all"]
USER = "argosy:p%40ss%3A%2Fword"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def port(folder: Path, authority: Authority) -> Iterator[int]:
    certificate, key = authority.server("127.0.0.1")
    tls = ("--tls-port", "{port}", "--port", "0", "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    files = ("--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no")
    with redis_server(folder, *tls, *files, *USERS) as port:
        yield port


@pytest.fixture
def url(port: int, authority: Authority) -> str:
    return f"rediss://{USER}@127.0.0.1:{port}/3?ssl_ca_certs={authority.file}"


@pytest.fixture(autouse=True)
def long_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pooled, multiplexed):
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 30)
        monkeypatch.setattr(module, "CONNECT_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(check, "CHECK_TIMEOUT_SECONDS", 10)


@asynccontextmanager
async def checking(url: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Yield a function that waits for the outcome of the first check."""
    watched = RedisCheck(RedisSection(url=url))
    await watched.start()

    async def outcome() -> str:
        async with asyncio.timeout(60):
            while "not been asked" in (state := (await readiness([watched]))["redis"]):
                await asyncio.sleep(0.02)
        return state

    try:
        yield outcome
    finally:
        await watched.stop()


async def outcome(url: str) -> str:
    async with checking(url) as wait:
        return await wait()


async def test_both_clients_and_a_subscription_use_tls_the_user_and_the_database(url: str) -> None:
    section, received = RedisSection(url=url), asyncio.Queue[bytes]()

    async def handle(message: bytes) -> None:
        await received.put(message)

    connected = asyncio.Event()

    async def on_connect() -> None:
        connected.set()

    async with Redis(section) as redis, MultiplexedRedis(section) as multiplexed_redis:
        await redis.client.set("key", "value", px=60_000)
        assert await multiplexed_redis.send("GET", "key") == b"value"
        assert await redis.client.acl_whoami() in ("argosy", b"argosy")
        info = await redis.client.info("keyspace")
        assert list(info) == ["db3"]
        subscription = redis.subscribe("channel", handle, on_connect)
        await subscription.start()
        async with asyncio.timeout(60):
            await connected.wait()
            await redis.publish("channel", b"hello")
            assert await received.get() == b"hello"
        await subscription.stop()
    assert await outcome(url) == "ok"


async def test_a_wrong_password_is_named(url: str) -> None:
    state = await outcome(url.replace(USER, "argosy:wrong"))
    assert "refuses the user or its password" in state
    assert "REDIS__URL" in state
    assert "wrong:" not in state


async def test_no_user_is_named(url: str) -> None:
    assert "REDIS__URL" in await outcome(url.replace(f"{USER}@", ""))


async def test_a_database_that_does_not_exist_is_named(url: str) -> None:
    state = await outcome(url.replace("/3?", "/99?"))
    assert "database of REDIS__URL" in state


async def test_an_authority_that_is_not_trusted_is_named(url: str, authority: Authority, tmp_path: Path) -> None:
    state = await outcome(url.replace(str(authority.file), str(Authority(tmp_path, "another").file)))
    assert "certificate of Redis is not trusted" in state
    assert "ssl_ca_certs of REDIS__URL" in state


async def test_a_certificate_for_another_host_is_named(url: str) -> None:
    assert "certificate of Redis is not trusted" in await outcome(url.replace("127.0.0.1", "localhost"))


async def test_tls_to_a_redis_without_it_is_named(
    folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "CHECK_TIMEOUT_SECONDS", 3)  # Redis takes the handshake for the beginning of a command
    with redis_server(folder, "--port", "{port}") as port:
        state = await outcome(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}")
    assert "check the scheme of REDIS__URL" in state


async def test_a_plain_url_to_a_redis_with_tls_is_named(url: str, port: int) -> None:
    assert "check the scheme of REDIS__URL" in await outcome(f"redis://{USER}@127.0.0.1:{port}/3")


async def test_cluster_mode_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--port", "{port}", "--cluster-enabled", "yes") as port:
        state = await outcome(f"redis://127.0.0.1:{port}/0")
    assert "Redis runs in cluster mode, which is not supported" in state


async def test_a_user_that_may_not_ask_for_the_mode_is_ready(tmp_path: Path) -> None:
    users = ["--user", "default", "off", "--user", "argosy", "on", ">secret", "~*", "&*", "+@all", "-info"]
    with redis_server(tmp_path, "--port", "{port}", *users) as port:
        assert await outcome(f"redis://argosy:secret@127.0.0.1:{port}/0") == "ok"


async def test_a_redis_that_does_not_answer_does_not_keep_a_service_from_being_ready() -> None:
    assert await outcome(f"redis://127.0.0.1:{free_port()}/0") == "ok"


async def test_a_refusal_that_is_mended_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.redis.check.RETRY_SECONDS", 0.05)
    with redis_server(tmp_path, "--port", "{port}", "--requirepass", "secret") as port:
        async with (
            checking(f"redis://127.0.0.1:{port}/0") as wait,
            Redis(RedisSection(url=f"redis://:secret@127.0.0.1:{port}/0")) as admin,
        ):
            assert "REDIS__URL" in await wait()
            await admin.client.config_set("requirepass", "")
            async with asyncio.timeout(60):
                while await wait() != "ok":
                    await asyncio.sleep(0.02)
