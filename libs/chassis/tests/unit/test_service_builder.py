"""The service builder: clients with their checks, in order, and only the extras that a service uses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from chassis.errors import Unavailable
from chassis.grpc import GrpcServer
from chassis.lifecycle import Component, Loop, ServiceBuilder, with_builder
from chassis.lifecycle.components import readiness
from chassis.settings import (
    GrpcSection,
    PostgresSection,
    PrincipalSection,
    RedisSection,
    ServiceSettings,
)
from chassis.telemetry import Telemetry
from chassis.tenancy import Caller, PrincipalSigner, as_caller
from chassis.testing import SECRET, a_principal, free_port
from chassis.testing.kafka import a_kafka_section
from pydantic import SecretStr

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register, text

OTHER_SECRET = "a-second-secret-for-tests-and-nothing-else"


class FakeTelemetry(Telemetry):
    """Telemetry that configures nothing."""

    def __init__(self) -> None:
        self.service = "toy"


def toy_settings(*secrets: str) -> ServiceSettings:
    return ServiceSettings(principal=PrincipalSection(secrets=tuple(map(SecretStr, secrets or (SECRET,)))))


def postgres() -> PostgresSection:
    return PostgresSection(dsn=SecretStr(f"postgresql://toy@127.0.0.1:{free_port()}/toy"))


async def test_the_first_secret_signs_and_all_verify() -> None:
    async def build(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        assert service.name == "toy"
        assert service.verifier.verify(service.signer.sign(a_principal())) == a_principal()
        rotated_out = PrincipalSigner(SECRET, "toy", service.clock)
        assert service.verifier.verify(rotated_out.sign(a_principal())) == a_principal()
        return []

    async with with_builder(build)(toy_settings(OTHER_SECRET, SECRET), FakeTelemetry()) as components:
        assert components == []


async def test_the_check_of_the_database_comes_first_and_fails_while_it_is_down() -> None:
    async def build(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        await service.database(postgres())

        async def body(_: object) -> None: ...

        return [Loop("work", body)]

    async with with_builder(build)(toy_settings(), FakeTelemetry()) as (check, loop):
        assert (check.name, loop.name) == ("postgres", "work")
        with pytest.raises(Unavailable):
            await check.ready()  # type: ignore[attr-defined]


async def test_redis_and_kafka_are_opened_while_they_are_down_and_each_redis_has_one_check_that_bears_it() -> None:
    async def build(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        section = RedisSection(url=f"redis://127.0.0.1:{free_port()}/0")
        await service.redis(section)
        await service.multiplexed_redis(section)
        await service.publisher(a_kafka_section(f"127.0.0.1:{free_port()}"))
        return []

    async with with_builder(build)(toy_settings(), FakeTelemetry()) as (check,):
        assert check.name == "redis"
        await check.start()
        async with asyncio.timeout(60):
            while (await readiness([check]))["redis"] != "ok":
                await asyncio.sleep(0.02)
        await check.stop()


async def test_clients_are_closed_in_reverse_also_when_the_build_fails() -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def client(name: str) -> AsyncIterator[str]:
        yield name
        closed.append(name)

    @asynccontextmanager
    async def observed(name: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            closed.append(name)

    async def build(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        assert await service.open(client("first")) == "first"
        await service.open(client("second"))
        return []

    async def failing(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        await service.open(observed("third"))
        raise RuntimeError("cannot be built")

    async with with_builder(build)(toy_settings(), FakeTelemetry()):
        assert closed == []
    assert closed == ["second", "first"]

    with pytest.raises(RuntimeError, match="cannot be built"):
        async with with_builder(failing)(toy_settings(), FakeTelemetry()):
            pass
    assert closed == ["second", "first", "third"]


async def test_the_server_accepts_callers_of_the_channel(echo: EchoService) -> None:
    stubs: list[EchoStub] = []
    callers: list[Caller] = []

    async def build(_: ServiceSettings, service: ServiceBuilder) -> Sequence[Component]:
        target = f"127.0.0.1:{free_port()}"
        stubs.append(EchoStub(await service.channel(target, "echo")))
        principal = a_principal()
        callers.append(Caller(principal, service.signer.sign(principal), "req_1"))
        return [service.grpc_server(GrpcSection(bind=target), (register, echo, SERVICE))]

    async with with_builder(build)(toy_settings(), FakeTelemetry()) as (server,):
        assert isinstance(server, GrpcServer)
        await server.start()
        with as_caller(callers[0]):
            assert (await stubs[0].Echo(text("a"))).value == "a!"
        await server.stop()


def test_a_service_without_a_database_needs_no_driver() -> None:
    program = """
import sys
from chassis.lifecycle import with_builder
print(sorted({"asyncpg", "aiokafka", "redis", "grpc"} & sys.modules.keys()))
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=30)

    assert shown.stdout == "[]\n"
