"""What the orchestrator knows of a request."""

import asyncio

import pytest
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import (
    OrchestrationServiceStub,
    add_OrchestrationServiceServicer_to_server,
)
from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.tenancy import Principal, as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from orchestrator.workers.model import Started

from services.orchestrator.tests.fakes import FakeWorkerClient
from services.orchestrator.tests.harness import Harness, reported, worker_finished

NAME = "argosy.orchestration.v1.OrchestrationService"
SERVICE = Principal("metering", roles=frozenset({"service"}))


async def ask(
    harness: Harness, *refs: tuple[str, str], principal: Principal = SERVICE
) -> list[pb.RequestState.ValueType]:
    async with serving((add_OrchestrationServiceServicer_to_server, harness.servicer, NAME)) as channel:
        with as_caller(a_caller(principal)):
            message = pb.GetRequestStatesRequest(
                requests=[pb.RequestRef(tenant_id=tenant, request_id=request) for tenant, request in refs]
            )
            response = await OrchestrationServiceStub(channel).GetRequestStates(message)
    return list(response.states)


async def test_each_request_has_its_state() -> None:
    gate = asyncio.Event()
    harness = Harness(FakeWorkerClient(Started(0), worker_finished(reported(1, 1))))
    tenant = harness.principal.tenant_id
    await harness.generate(request_id="req_written")
    harness.worker.script = (gate, worker_finished(reported(1, 1)))
    running = asyncio.ensure_future(harness.generate(request_id="req_running"))
    while len(harness.worker.calls) < 2:
        await asyncio.sleep(0)

    refs = [(tenant, "req_running"), (tenant, "req_written"), (tenant, "req_3"), ("ten_other", "req_written")]
    states = await ask(harness, *refs, refs[1])

    assert states == [
        pb.REQUEST_STATE_RUNNING,
        pb.REQUEST_STATE_USAGE_PENDING,
        pb.REQUEST_STATE_UNKNOWN,
        pb.REQUEST_STATE_UNKNOWN,
        pb.REQUEST_STATE_USAGE_PENDING,
    ]
    gate.set()
    await running


async def test_a_request_that_only_reserves_is_running() -> None:
    harness = Harness(FakeWorkerClient(Started(0), worker_finished(reported(1, 1))))
    harness.metering.gate = asyncio.Event()
    waiting = asyncio.ensure_future(harness.generate())
    await asyncio.sleep(0)

    assert await ask(harness, (harness.principal.tenant_id, "req_1")) == [pb.REQUEST_STATE_RUNNING]

    harness.metering.gate.set()
    await waiting


async def test_an_embedding_is_a_request_as_well() -> None:
    harness = Harness(FakeWorkerClient())
    harness.worker.ready = asyncio.Event()
    waiting = asyncio.ensure_future(harness.embed("a"))
    await asyncio.sleep(0)

    assert await ask(harness, (harness.principal.tenant_id, "req_1")) == [pb.REQUEST_STATE_RUNNING]

    harness.worker.unavailable = Unavailable("no worker")
    harness.worker.ready.set()
    with pytest.raises(Unavailable):
        await waiting


async def test_a_tenant_may_not_ask() -> None:
    with pytest.raises(ArgosyError) as refused:
        await ask(Harness(), principal=Principal("ten_1", roles=frozenset({"admin"})))

    assert refused.value.kind is Kind.DENIED


async def test_too_many_at_once_are_refused() -> None:
    with pytest.raises(ArgosyError) as refused:
        await ask(Harness(), *(("ten_1", f"req_{number}") for number in range(1_001)))

    assert refused.value.kind is Kind.INVALID


async def test_while_the_outbox_cannot_be_read_nothing_is_said() -> None:
    harness = Harness()
    harness.outbox.failure = Unavailable("no database")

    with pytest.raises(ArgosyError) as failed:
        await ask(harness, ("ten_1", "req_1"))

    assert failed.value.kind is Kind.UNAVAILABLE
