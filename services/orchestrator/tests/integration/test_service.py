"""The service as `main` puts it together: on a real Postgres, without Kafka, with scripted peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from argosy.common.v1.common_pb2 import USAGE_SOURCE_REPORTED, Money, TokenUsage
from argosy.inference.v1 import inference_pb2 as inference
from argosy.metering.v1 import metering_pb2 as metering
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from argosy.retrieval.v1.retrieval_pb2 import SearchResponse
from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer
from chassis.ids import new_id
from chassis.lifecycle import Component, with_builder
from chassis.settings import GrpcSection, PostgresSection, PrincipalSection
from chassis.telemetry import Telemetry
from chassis.tenancy import Caller, PrincipalSigner, PrincipalVerifier, as_caller
from chassis.testing import SECRET, a_principal, free_port
from chassis.testing.grpc import serving_at
from orchestrator.main import build
from orchestrator.settings import DatabaseSection, EventsSection, Peers, Settings
from pydantic import SecretStr

from services.orchestrator.tests.harness import HELLO
from services.orchestrator.tests.peers import ScriptedMetering, ScriptedRetrieval, ScriptedWorker

# The service has the machine's clock, so its callers have too.
VERIFIER = PrincipalVerifier([SECRET], SystemClock())
PRINCIPAL = a_principal()
CALLER = Caller(PRINCIPAL, PrincipalSigner(SECRET, "tests", SystemClock()).sign(PRINCIPAL), "req_1")

RESERVED = metering.ReserveResponse(
    held=Money(nano_usd=10**9),
    prices=[
        metering.Price(
            price_key="local/smollm2-135m-instruct",
            version="prc_1",
            input_per_million=Money(nano_usd=50_000_000),
            output_per_million=Money(nano_usd=200_000_000),
        )
    ],
)
FINISHED = inference.InferResponse(
    finished=inference.Finished(
        attempts=[
            inference.Attempt(
                number=1, usage=TokenUsage(source=USAGE_SOURCE_REPORTED, input_tokens=120, output_tokens=48)
            )
        ]
    )
)
# Of a service's telemetry its builder takes the name only.
TELEMETRY = cast("Telemetry", SimpleNamespace(service="orchestrator"))

CHUNK = inference.InferResponse(chunk=inference.Chunk(payloads=[b"{}"]))


async def answer(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
    yield CHUNK
    yield FINISHED


async def talk_until_stopped(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
    yield CHUNK
    worker.requests.append(await anext(requests))
    yield FINISHED


class Running:
    """A running orchestrator."""

    def __init__(self, components: list[Component], stub: Any, worker: ScriptedWorker, channel: Channel) -> None:
        self.components = components
        self.stub = stub
        self.channel = channel
        self.worker = worker

    async def stop(self) -> None:
        while self.components:
            await self.components.pop().stop()


@asynccontextmanager
async def running(section: PostgresSection, worker: ScriptedWorker) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        peers = {}
        for name, registration in {
            "inference_worker": worker.registration,
            "metering": ScriptedMetering(RESERVED).registration,
            "retrieval": ScriptedRetrieval(SearchResponse()).registration,
        }.items():
            server = await stack.enter_async_context(serving_at("127.0.0.1:0", [registration], VERIFIER))
            peers[name] = f"127.0.0.1:{server.port}"
        settings = Settings(
            postgres=DatabaseSection(**dict(section)),
            kafka=EventsSection(bootstrap=f"127.0.0.1:{free_port()}", signing_keys=(SecretStr(f"tests-1:{SECRET}"),)),
            peers=Peers(**peers),
            principal=PrincipalSection(secrets=(SecretStr(SECRET),)),
            grpc=GrpcSection(bind="127.0.0.1:0"),
            drain=timedelta(seconds=1),
        )
        components = list(await stack.enter_async_context(with_builder(build)(settings, TELEMETRY)))
        for component in components:
            await component.start()
        (grpc_server,) = (component for component in components if isinstance(component, GrpcServer))
        channel = await stack.enter_async_context(Channel(f"127.0.0.1:{grpc_server.port}", "the orchestrator"))
        stack.enter_context(as_caller(CALLER))
        made = Running(components, OrchestrationServiceStub(channel), worker, channel)
        await _ready(components)
        try:
            yield made
        finally:
            await made.stop()


async def _ready(components: list[Component]) -> None:
    for component in components:
        while hasattr(component, "ready") and not await _is_ready(component):
            await asyncio.sleep(0.01)


async def _is_ready(component: Any) -> bool:
    try:
        return bool(await component.ready())
    except Exception:  # noqa: BLE001 - as the lifecycle does
        return False


def a_request(*, stream: bool = True) -> pb.GenerateRequest:
    body = json.dumps(HELLO).encode()
    return pb.GenerateRequest(request_id=new_id("req_"), model="smollm2", body=body, stream=stream)


async def test_a_request_is_answered_and_its_usage_waits_for_kafka(section: PostgresSection, owner: Any) -> None:
    async with running(section, ScriptedWorker(answer)) as service:
        events = [event async for event in service.stub.Generate(a_request())]
        await service.stop()

    assert [event.WhichOneof("event") for event in events] == ["started", "chunk", "finished"]
    assert events[-1].finished.cost.nano_usd == 120 * 50 + 48 * 200
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 1


async def test_the_drain_aborts_a_running_plan_and_records_its_usage(section: PostgresSection, owner: Any) -> None:
    async with running(section, ScriptedWorker(talk_until_stopped)) as service:
        call = service.stub.Generate(a_request())
        await call.read()
        await call.read()

        await service.stop()

        assert [request.WhichOneof("request") for request in service.worker.requests] == ["run", "stop"]
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 1


async def test_the_drain_aborts_a_plan_that_runs_on_without_its_client(section: PostgresSection, owner: Any) -> None:
    async with running(section, ScriptedWorker(talk_until_stopped)) as service:
        call = service.stub.Generate(a_request(stream=False))
        while not service.worker.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.sleep(0.05)
        before = [request.WhichOneof("request") for request in service.worker.requests]

        await service.stop()

        assert before == ["run"]
        assert [request.WhichOneof("request") for request in service.worker.requests] == ["run", "stop"]
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 1


async def test_models_are_listed(section: PostgresSection, owner: Any) -> None:
    async with running(section, ScriptedWorker(answer)) as service:
        listed = await service.stub.ListModels(pb.ListModelsRequest())

    assert [model.name for model in listed.models] == ["all-minilm-l6-v2", "smollm2"]
