"""What the mains of all services have in common: clock, secrets, clients with their checks, and the gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chassis.clock import Clock, SystemClock
from chassis.lifecycle.components import Check, Component
from chassis.settings import GrpcSection, KafkaSection, PostgresSection, RedisSection, ServiceSettings
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalSigner, PrincipalVerifier

if TYPE_CHECKING:
    from chassis.grpc import Channel, GrpcServer, Registration
    from chassis.kafka import Publisher
    from chassis.postgres import Database
    from chassis.redis import MultiplexedRedis, Redis

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")

# Imports are inside the methods, because a service installs only the extras of what it uses.
# ruff: noqa: PLC0415


class ServiceBuilder:
    """Opens the clients of one service; they are closed in reverse order after its components have stopped.

    `checks` are the readiness checks of what the service cannot work without: its database, and the topics of Kafka if
    Kafka answers. A Redis that refuses the service from the start on keeps it from being ready too, because its address
    is wrong; one that does not answer does not. Peers have none: the service answers without them and without Redis, if
    only with errors or degraded. What is put on `stack` is closed with the clients.
    """

    def __init__(self, settings: ServiceSettings, telemetry: Telemetry, stack: AsyncExitStack) -> None:
        secrets = [secret.get_secret_value() for secret in settings.principal.secrets]
        self.telemetry = telemetry
        self.name = telemetry.service
        self.clock: Clock = SystemClock()
        self.signer = PrincipalSigner(secrets[0], self.name, self.clock)
        self.verifier = PrincipalVerifier(secrets, self.clock)
        self.checks: list[Component] = []
        self._checked_redis: set[str] = set()
        self.stack = stack

    async def open(self, client: AbstractAsyncContextManager[T]) -> T:
        """Enter a context manager that is left after the components have stopped."""
        return await self.stack.enter_async_context(client)

    async def database(self, section: PostgresSection, migrations: Path | None = None) -> Database:
        """Open the service's database; the service is ready only while it works, with all of `migrations` applied."""
        from chassis.postgres import Database, readiness_check

        database = await self.open(Database(section, self.name))
        self.checks.append(Check("postgres", readiness_check(database, migrations)))
        return database

    async def redis(self, section: RedisSection) -> Redis:
        from chassis.redis import Redis

        self._check_redis(section)
        return await self.open(Redis(section))

    async def multiplexed_redis(
        self, section: RedisSection, *, timeout_seconds: float | None = None
    ) -> MultiplexedRedis:
        from chassis.redis import MultiplexedRedis

        self._check_redis(section)
        return await self.open(MultiplexedRedis(section, timeout_seconds=timeout_seconds))

    def _check_redis(self, section: RedisSection) -> None:
        """Check each Redis once, however many clients use it."""
        from chassis.redis import RedisCheck

        if section.url not in self._checked_redis:
            self._checked_redis.add(section.url)
            self.checks.append(RedisCheck(section))

    async def publisher(self, section: KafkaSection) -> Publisher:
        from chassis.kafka import Publisher

        return await self.open(Publisher(section))

    def topics(self, section: KafkaSection, *topics: str) -> Component:
        """Make the readiness check of the topics that the service publishes or consumes."""
        from chassis.kafka import TopicsCheck

        return TopicsCheck(section, topics)

    async def channel(self, target: str, peer: str) -> Channel:
        """Open a channel to the service called `peer` at `target` ("host:port", or several separated by commas)."""
        from chassis.grpc import Channel

        return await self.open(Channel(target, peer))

    def grpc_server(
        self, section: GrpcSection, *servicers: Registration, grace: timedelta = timedelta(seconds=20)
    ) -> GrpcServer:
        """Make the gRPC server. List it last among the components, so that it stops first."""
        from chassis.grpc import GrpcServer

        return GrpcServer(section.bind, servicers, self.verifier, self.clock, grace=grace)


def with_builder(
    build: Callable[[S, ServiceBuilder], Awaitable[Sequence[Component]]],
) -> Callable[[S, Telemetry], AbstractAsyncContextManager[Sequence[Component]]]:
    """Make a `Service.build` of a function that returns its components; the builder's checks come before them."""

    @asynccontextmanager
    async def open_clients(settings: S, telemetry: Telemetry) -> AsyncIterator[Sequence[Component]]:
        async with AsyncExitStack() as stack:
            builder = ServiceBuilder(settings, telemetry, stack)
            components = await build(settings, builder)
            yield [*builder.checks, *components]

    return open_clients
