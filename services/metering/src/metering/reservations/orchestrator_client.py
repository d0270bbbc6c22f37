"""What the orchestrators know of requests whose leases are over."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from rpc.replicas import Resolver, resolve

from metering.reservations.model import RequestRef

SERVICE: Final = Principal("metering", roles=frozenset({"service"}))
"""Who asks: no tenant, but a service that may ask about all of them."""
TIMEOUT_SECONDS = 5.0


class OrchestratorRequestStates:
    """Implements `RequestStates` with `OrchestrationService.GetRequestStates` of every replica.

    A request runs in one replica, and only that one knows it, so all of them are asked: while one does not answer, none
    of the requests is known to be over. An address that refuses connections has no process, and what that process ran
    ended with it; one replica at least must answer, because usage that waits is in the database that all of them share.
    Each question opens its own streams; it is rare, and replicas come and go.
    """

    def __init__(self, target: str, signer: PrincipalSigner, resolver: Resolver = resolve) -> None:
        """`target` is "host:port", or several separated by commas."""
        self._targets = [part.strip() for part in target.split(",")]
        self._signer = signer
        self._resolver = resolver

    async def known(self, requests: Sequence[RequestRef]) -> Sequence[bool]:
        refs = [pb.RequestRef(tenant_id=tenant_id, request_id=request_id) for tenant_id, request_id in requests]
        message = pb.GetRequestStatesRequest(requests=refs)
        with as_caller(Caller(SERVICE, self._signer.sign(SERVICE), new_id("req_"))):
            replies = await asyncio.gather(*(self._ask(address, message) for address in await self._replicas()))
        answers = [states for states in replies if states is not None]
        if not answers:
            raise Unavailable("no orchestrator accepts connections")
        return [any(states) for states in zip(*answers, strict=True)]

    async def _replicas(self) -> set[str]:
        try:
            found = await asyncio.gather(*map(self._resolver, self._targets))
        except (OSError, ValueError) as error:
            raise Unavailable("the address of the orchestrator is unknown") from error
        replicas = {address for addresses in found for address in addresses}
        if not replicas:
            raise Unavailable("there is no orchestrator")
        return replicas

    async def _ask(self, address: str, message: pb.GetRequestStatesRequest) -> list[bool] | None:
        """Return None when nothing listens at the address."""
        if await _refuses_connections(address):
            return None
        channel: Any
        async with Channel(address, "orchestrator") as channel:
            await channel.await_ready(TIMEOUT_SECONDS)
            stub = OrchestrationServiceStub(channel)
            response = await stub.GetRequestStates(message, timeout=TIMEOUT_SECONDS)
        if len(response.states) != len(message.requests):
            raise Unavailable("the orchestrator did not answer for every request")
        # A state of a newer version keeps the reservation as well: only a certain "unknown" frees it.
        return [state != pb.REQUEST_STATE_UNKNOWN for state in response.states]


async def _refuses_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False  # a host that is frozen or cut off may still run the request
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return False
