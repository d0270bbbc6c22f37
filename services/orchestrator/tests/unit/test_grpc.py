"""The door, as a caller sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_COUNTED, USAGE_SOURCE_REPORTED
from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import (
    OrchestrationServiceStub,
    add_OrchestrationServiceServicer_to_server,
)
from chassis.errors import Kind, RemoteError
from chassis.grpc import duration_to_proto
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from chassis.testing.logs import captured_lines
from orchestrator.api.servicer import OrchestrationServicer
from orchestrator.domain.ports import Answering, Embedding, Failure, Passage, Payloads
from prometheus_client import REGISTRY

from services.orchestrator.tests.fakes import FakeRetrieval, FakeWorker
from services.orchestrator.tests.world import HELLO, World, an_account, reported

NAME = "argosy.orchestration.v1.OrchestrationService"


@asynccontextmanager
async def a_door(world: World) -> AsyncIterator[Any]:
    servicer = OrchestrationServicer(generations=world.generations, embeddings=world.embeddings, routes=world.routes)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, NAME)) as channel:
        with as_caller(a_caller(world.principal)):
            yield OrchestrationServiceStub(channel)


def a_request(**more: Any) -> pb.GenerateRequest:
    body = {**HELLO, "argosy": {"retrieval": {"vector_store_ids": ["vs_1"]}}}
    given = {"request_id": "req_1", "model": "smollm2", "body": json.dumps(body).encode(), "stream": True} | more
    return pb.GenerateRequest(**given)


def counted(outcome: str, metric: str = "orchestrator_generations_total") -> float:
    return REGISTRY.get_sample_value(metric, {"outcome": outcome}) or 0.0


async def test_an_answer_travels_as_begun_chunks_done():
    passage = Passage("file-1", "ships.pdf", 3, "It is large.", 0.5)
    account = an_account(reported(120, 48), usage_payload=b'{"usage":1}')
    world = World(FakeWorker(Answering(0), Payloads([b'{"a":1}']), account), retrieval=FakeRetrieval([passage]))
    before = counted("answered")

    async with a_door(world) as stub:
        steps = [step async for step in stub.Generate(a_request())]

    assert [step.WhichOneof("event") for step in steps] == ["begun", "chunk", "done"]
    assert steps[0].begun.sources == [
        pb.Source(number=1, file_id="file-1", filename="ships.pdf", page=3, text="It is large.", score=0.5)
    ]
    assert list(steps[1].chunk.payloads) == [b'{"a":1}']
    done = steps[2].done
    assert (done.cost.nano_usd, done.usage_payload) == (120 * 50 + 48 * 200, b'{"usage":1}')
    assert (done.usage.source, done.usage.input_tokens, done.usage.output_tokens) == (USAGE_SOURCE_REPORTED, 120, 48)
    assert not done.HasField("failure")
    assert counted("answered") == before + 1


async def test_a_cut_answer_says_why_at_its_end():
    account = an_account(reported(1, 1), failure=Failure("UPSTREAM_CUT", "it broke off"))
    world = World(FakeWorker(Payloads([b"{}"]), account))
    before = counted("cut")

    with captured_lines() as lines:
        async with a_door(world) as stub:
            steps = [step async for step in stub.Generate(a_request())]

    failure = steps[-1].done.failure
    assert (failure.reason, failure.message) == ("UPSTREAM_CUT", "it broke off")
    told = [(line["outcome"], line["reason"]) for line in lines if line["event"] == "generation"]
    assert told == [("cut", "UPSTREAM_CUT")]
    assert counted("cut") == before + 1


async def test_what_fails_before_the_first_byte_is_a_status_and_nothing_else():
    account = an_account(reported(0, 0), failure=Failure("UPSTREAM_RATE_LIMITED", "slow down"))
    world = World(FakeWorker(Answering(0), account))
    before = counted("throttled")

    async with a_door(world) as stub:
        with pytest.raises(RemoteError) as failed:
            await stub.Generate(a_request()).read()

    assert (failed.value.kind, failed.value.reason) == (Kind.THROTTLED, "UPSTREAM_RATE_LIMITED")
    assert counted("throttled") == before + 1


async def test_a_bad_parameter_is_named():
    async with a_door(World()) as stub:
        with pytest.raises(RemoteError) as refused:
            await stub.Generate(a_request(body=b'{"messages":[]}')).read()

    assert (refused.value.reason, refused.value.param) == ("INVALID_REQUEST", "messages")


async def test_a_caller_who_hangs_up_stops_the_worker_and_the_usage_is_recorded():
    world = World(FakeWorker(Payloads([b"{}"]), asyncio.Event(), stopped=an_account(reported(5, 1))))
    before = counted("cancelled")

    async with a_door(world) as stub:
        call = stub.Generate(a_request())
        await call.read()
        await call.read()
        call.cancel()
        while not world.log.recorded:
            await asyncio.sleep(0)

    assert world.worker.runs[0].was_stopped
    assert (await world.usage).attempts[0].usage == reported(5, 1)
    assert counted("cancelled") == before + 1


class Closed:
    """The context of a call that is over already, which nobody has told its servicer yet."""

    def time_remaining(self) -> None:
        return None

    async def write(self, message: Any) -> None:
        raise grpc.aio.AbortError


async def test_an_answer_to_nobody_is_cancelled_and_its_usage_is_recorded():
    world = World(FakeWorker(Payloads([b"{}"]), asyncio.Event(), stopped=an_account(reported(5, 1))))
    servicer = OrchestrationServicer(generations=world.generations, embeddings=world.embeddings, routes=world.routes)
    before = counted("cancelled")

    with as_caller(a_caller(world.principal)), pytest.raises(grpc.aio.AbortError):
        await servicer.Generate(a_request(), Closed())

    assert (await world.usage).attempts[0].usage == reported(5, 1)
    assert world.worker.runs[0].was_stopped
    assert counted("cancelled") == before + 1


async def test_a_call_whose_time_is_up_is_hung_up_on_too():
    world = World(FakeWorker(asyncio.Event(), stopped=an_account(reported(5, 1))))

    async with a_door(world) as stub:
        call = stub.Generate(a_request(), timeout=0.2)
        with pytest.raises(Exception, match="in time"):
            await call.read()
        while not world.log.recorded:
            await asyncio.sleep(0)

    assert world.worker.runs[0].was_stopped


async def test_the_shorter_of_both_deadlines_counts():
    world = World(FakeWorker(Payloads([b"{}"]), an_account(reported(1, 1))))

    async with a_door(world) as stub:
        async for _ in stub.Generate(a_request(deadline=duration_to_proto(timedelta(seconds=20))), timeout=90):
            pass
        async for _ in stub.Generate(a_request(deadline=duration_to_proto(timedelta(seconds=900))), timeout=9):
            pass

    first, second = world.worker.plans
    assert first.deadline == timedelta(seconds=20)
    assert timedelta(seconds=1) < second.deadline < timedelta(seconds=10)


async def test_embeddings_travel_with_their_bill():
    embedding = Embedding((b"\0\0\0\0",), an_account(reported(2, 0)))
    before = counted("answered", "orchestrator_embeddings_total")

    async with a_door(World(FakeWorker(embedding=embedding))) as stub:
        answer = await stub.Embed(pb.EmbedRequest(request_id="req_1", model="all-minilm-l6-v2", inputs=["a"]))

    assert [vector.float32 for vector in answer.vectors] == [b"\0\0\0\0"]
    assert answer.cost.nano_usd == 2 * 10
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 0)
    assert answer.usage.source != USAGE_SOURCE_COUNTED
    assert counted("answered", "orchestrator_embeddings_total") == before + 1


async def test_models_are_listed_by_name_with_their_task():
    async with a_door(World()) as stub:
        listed = await stub.ListModels(pb.ListModelsRequest())

    assert [(model.name, model.task) for model in listed.models] == [
        ("all-minilm-l6-v2", pb.MODEL_TASK_EMBEDDING),
        ("smollm2", pb.MODEL_TASK_CHAT),
    ]
    assert listed.models[0].created_at.seconds > 0


async def test_nobody_gets_in_without_a_principal():
    world = World()
    servicer = OrchestrationServicer(generations=world.generations, embeddings=world.embeddings, routes=world.routes)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, NAME)) as channel:
        with pytest.raises(RemoteError) as refused:
            await OrchestrationServiceStub(channel).ListModels(pb.ListModelsRequest())

    assert refused.value.reason == "PRINCIPAL_INVALID"
