"""Asks each replica by itself. The gateway sends a request to the least loaded one, which may be the same each time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from argosy.metering.v1.metering_pb2 import ListPricesRequest
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from argosy.orchestration.v1.orchestration_pb2 import ListModelsRequest
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.clock import SystemClock
from chassis.errors import ArgosyError
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

WAIT_SECONDS = 30
POLL_SECONDS = 0.05


@asynccontextmanager
async def _channel(target: str, replica: str, principal_secret: str) -> AsyncIterator[Channel]:
    """A channel to one replica, as a member of a tenant without anything of its own."""
    principal = Principal("ten_replicas", "prj_replicas", "key_replicas", roles=frozenset({"member"}))
    token = PrincipalSigner(principal_secret, "gateway", SystemClock()).sign(principal)
    async with Channel(target, replica) as channel:
        with as_caller(Caller(principal, token, new_id("req_"))):
            yield channel


async def wait_until_routed(targets: Mapping[str, str], principal_secret: str, model: str) -> None:
    """Wait until each orchestrator, by name and address, has a route of all tenants. Raises `TimeoutError`."""

    async def has_route(channel: Channel) -> bool:
        stub: Any = OrchestrationServiceStub(channel)
        return model in {one.name for one in (await stub.ListModels(ListModelsRequest(), timeout=10)).models}

    await _wait(targets, principal_secret, has_route)


async def wait_until_priced(targets: Mapping[str, str], principal_secret: str, versions: Mapping[str, str]) -> None:
    """Wait until each metering has these versions of prices, by price key, or newer ones. Raises `TimeoutError`."""

    async def has_prices(channel: Channel) -> bool:
        stub: Any = MeteringServiceStub(channel)
        listed = (await stub.ListPrices(ListPricesRequest(), timeout=10)).prices
        known = {one.price_key: one.version for one in listed}
        # Versions grow with time.
        return all(known.get(key, "") >= version for key, version in versions.items())

    await _wait(targets, principal_secret, has_prices)


async def _wait(targets: Mapping[str, str], secret: str, holds: Callable[[Channel], Awaitable[bool]]) -> None:
    async def wait(replica: str, target: str) -> None:
        async with _channel(target, replica, secret) as channel:
            while not await _try(holds, channel):
                await asyncio.sleep(POLL_SECONDS)

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(wait(replica, target) for replica, target in targets.items()))


async def _try(holds: Callable[[Channel], Awaitable[bool]], channel: Channel) -> bool:
    try:
        return await holds(channel)
    except ArgosyError:
        return False  # a replica that is starting
