"""Every replica of the orchestrator is asked, and only a certain "unknown" of all of them counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1 import orchestration_pb2_grpc as pb_grpc
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, Unavailable
from chassis.grpc import GrpcServer
from chassis.tenancy import PrincipalSigner, PrincipalVerifier, current_caller
from chassis.testing import SECRET, free_port
from metering.reservations.model import RequestRef
from metering.reservations.orchestrator_client import OrchestratorRequestStates

REFS = [RequestRef("ten_a", "running"), RequestRef("ten_b", "pending"), RequestRef("ten_a", "lost")]
RUNNING, PENDING = pb.REQUEST_STATE_RUNNING, pb.REQUEST_STATE_USAGE_PENDING


class FakeOrchestrator:
    def __init__(self, states: Mapping[str, pb.RequestState.ValueType]) -> None:
        self.states = states

    async def GetRequestStates(self, request: pb.GetRequestStatesRequest, context: Any) -> pb.GetRequestStatesResponse:
        current_caller().principal.require("service")
        unknown = pb.REQUEST_STATE_UNKNOWN
        return pb.GetRequestStatesResponse(
            states=[self.states.get(ref.request_id, unknown) for ref in request.requests]
        )


@asynccontextmanager
async def orchestrators(*replicas: Mapping[str, pb.RequestState.ValueType]) -> AsyncIterator[list[str]]:
    """Serve a replica for each mapping; yield their addresses."""
    async with AsyncExitStack() as stack:
        addresses = []
        for states in replicas:
            methods = type("Servicer", (FakeOrchestrator, pb_grpc.OrchestrationServiceServicer), {})
            registration: Any = (
                pb_grpc.add_OrchestrationServiceServicer_to_server,
                methods(states),
                "argosy.orchestration.v1.OrchestrationService",
            )
            clock = SystemClock()
            server = GrpcServer("127.0.0.1:0", (registration,), PrincipalVerifier([SECRET], clock), clock)
            await server.start()
            stack.push_async_callback(server.stop)
            addresses.append(f"127.0.0.1:{server.port}")
        yield addresses


def states_of(*addresses: str) -> OrchestratorRequestStates:
    return OrchestratorRequestStates(",".join(addresses), PrincipalSigner(SECRET, "metering", SystemClock()))


async def test_a_request_is_known_while_any_replica_runs_it_or_has_its_usage() -> None:
    async with orchestrators({"running": RUNNING}, {"pending": PENDING}) as addresses:
        assert await states_of(*addresses).known(REFS) == [True, True, False]


async def test_while_one_replica_does_not_answer_nothing_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.reservations.orchestrator_client.TIMEOUT_SECONDS", 0.3)

    connections: set[asyncio.Task[Any]] = set()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with orchestrators({}) as (address,), await asyncio.start_server(silent, "127.0.0.1", 0) as frozen:
        port = frozen.sockets[0].getsockname()[1]
        with pytest.raises(ArgosyError):
            await states_of(address, f"127.0.0.1:{port}").known(REFS)
        await asyncio.wait(connections, timeout=5)


async def test_an_address_without_a_process_knows_no_request() -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with orchestrators({"running": RUNNING}) as (address,):
        assert await states_of(address, dead).known(REFS) == [True, False, False]
    with pytest.raises(Unavailable):
        await states_of(dead).known(REFS)


async def test_an_unknown_name_and_a_state_of_a_newer_version_free_nothing() -> None:
    with pytest.raises(Unavailable):
        await states_of("nowhere.invalid:9000").known(REFS)
    async with orchestrators({"running": pb.REQUEST_STATE_UNSPECIFIED}) as addresses:
        assert await states_of(*addresses).known(REFS) == [True, False, False]
