"""The service as its callers see it."""

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
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from chassis.testing.logs import captured_lines
from orchestrator.context.model import Passage
from orchestrator.grpc import OrchestrationServicer
from orchestrator.workers.model import Chunk, EmbeddingResult, Started
from prometheus_client import REGISTRY
from rpc.wire import WINDOW_BYTES as WINDOW
from values.protos import duration_to_proto

from services.orchestrator.tests.fakes import FakeRetrievalClient, FakeWorkerClient
from services.orchestrator.tests.harness import HELLO, Harness, reported, worker_finished

METHODS = pb.DESCRIPTOR.services_by_name["OrchestrationService"].methods
NAME = "argosy.orchestration.v1.OrchestrationService"


@asynccontextmanager
async def serving_stub(harness: Harness) -> AsyncIterator[Any]:
    async with serving((add_OrchestrationServiceServicer_to_server, harness.servicer, NAME)) as channel:
        with as_caller(a_caller(harness.principal)):
            yield OrchestrationServiceStub(channel)


def a_request(**more: Any) -> pb.GenerateRequest:
    body = {**HELLO, "argosy": {"retrieval": {"vector_store_ids": ["vs_1"]}}}
    fields: dict[str, Any] = {
        "request_id": "req_1",
        "model": "smollm2",
        "body": json.dumps(body).encode(),
        "stream": True,
    }
    return pb.GenerateRequest(**fields | more)


def counted(outcome: str, metric: str = "orchestrator_generations_total") -> float:
    return REGISTRY.get_sample_value(metric, {"outcome": outcome}) or 0.0


async def test_an_answer_is_sent_as_started_chunks_finished() -> None:
    passage = Passage("file-1", "ships.pdf", 3, "It is large.", 0.5)
    end = worker_finished(reported(120, 48), usage_payload=b'{"usage":1}')
    harness = Harness(FakeWorkerClient(Started(0), Chunk([b'{"a":1}']), end), retrieval=FakeRetrievalClient([passage]))
    before = counted("answered")

    async with serving_stub(harness) as stub:
        events = [event async for event in stub.Generate(a_request())]

    assert [event.WhichOneof("event") for event in events] == ["started", "chunk", "finished"]
    assert events[0].started.sources == [
        pb.Source(number=1, file_id="file-1", filename="ships.pdf", page=3, text="It is large.", score=0.5)
    ]
    assert list(events[1].chunk.payloads) == [b'{"a":1}']
    finished = events[2].finished
    assert (finished.cost.nano_usd, finished.usage_payload) == (120 * 50 + 48 * 200, b'{"usage":1}')
    assert (finished.usage.source, finished.usage.input_tokens) == (USAGE_SOURCE_REPORTED, 120)
    assert finished.usage.output_tokens == 48
    assert not finished.HasField("error")
    assert counted("answered") == before + 1


async def test_an_interrupted_answer_has_its_error_in_finished() -> None:
    end = worker_finished(reported(1, 1), error=RemoteError(Kind.UPSTREAM, "UPSTREAM_INTERRUPTED", "it broke off"))
    harness = Harness(FakeWorkerClient(Chunk([b"{}"]), end))
    before = counted("interrupted")

    with captured_lines() as lines:
        async with serving_stub(harness) as stub:
            events = [event async for event in stub.Generate(a_request())]

    error = events[-1].finished.error
    assert (error.kind, error.reason, error.message) == ("upstream", "UPSTREAM_INTERRUPTED", "it broke off")
    logged = [(line["outcome"], line["reason"]) for line in lines if line["event"] == "generation"]
    assert logged == [("interrupted", "UPSTREAM_INTERRUPTED")]
    assert counted("interrupted") == before + 1


async def test_what_fails_before_the_first_byte_is_a_status_and_nothing_else() -> None:
    end = worker_finished(reported(0, 0), error=RemoteError(Kind.THROTTLED, "UPSTREAM_RATE_LIMITED", "slow down"))
    harness = Harness(FakeWorkerClient(Started(0), end))
    before = counted("throttled")

    async with serving_stub(harness) as stub:
        with pytest.raises(RemoteError) as failed:
            await stub.Generate(a_request()).read()

    assert (failed.value.kind, failed.value.reason) == (Kind.THROTTLED, "UPSTREAM_RATE_LIMITED")
    assert counted("throttled") == before + 1


async def test_a_bad_parameter_is_named() -> None:
    async with serving_stub(Harness()) as stub:
        with pytest.raises(RemoteError) as refused:
            await stub.Generate(a_request(body=b'{"messages":[]}')).read()

    assert (refused.value.reason, refused.value.param) == ("INVALID_REQUEST", "messages")


async def test_a_cancelled_call_stops_the_worker_and_its_usage_is_recorded() -> None:
    harness = Harness(FakeWorkerClient(Chunk([b"{}"]), asyncio.Event(), stopped=worker_finished(reported(5, 1))))
    before = counted("cancelled")

    async with serving_stub(harness) as stub:
        call = stub.Generate(a_request())
        await call.read()
        await call.read()
        call.cancel()
        while not harness.outbox.written:
            await asyncio.sleep(0)

    assert harness.worker.calls[0].was_stopped
    assert (await harness.usage).attempts[0].usage == reported(5, 1)
    assert counted("cancelled") == before + 1


class ClosedContext:
    """The context of a call that has ended without the servicer's knowledge."""

    def time_remaining(self) -> None:
        return None

    async def write(self, message: Any) -> None:
        raise grpc.aio.AbortError


async def test_a_failed_write_stops_the_worker_and_the_usage_is_recorded() -> None:
    harness = Harness(FakeWorkerClient(Chunk([b"{}"]), asyncio.Event(), stopped=worker_finished(reported(5, 1))))
    before = counted("cancelled")

    with as_caller(a_caller(harness.principal)), pytest.raises(grpc.aio.AbortError):
        await harness.servicer.Generate(a_request(), ClosedContext())

    assert (await harness.usage).attempts[0].usage == reported(5, 1)
    assert harness.worker.calls[0].was_stopped
    assert counted("cancelled") == before + 1


async def test_a_call_past_its_deadline_stops_the_worker() -> None:
    harness = Harness(FakeWorkerClient(asyncio.Event(), stopped=worker_finished(reported(5, 1))))

    async with serving_stub(harness) as stub:
        call = stub.Generate(a_request(), timeout=1)
        with pytest.raises(Exception, match="in time"):
            await call.read()
        while not harness.outbox.written:
            await asyncio.sleep(0)

    assert harness.worker.calls[0].was_stopped


async def test_the_shorter_of_both_deadlines_counts() -> None:
    harness = Harness(FakeWorkerClient(Chunk([b"{}"]), worker_finished(reported(1, 1))))

    async with serving_stub(harness) as stub:
        async for _ in stub.Generate(a_request(deadline=duration_to_proto(timedelta(seconds=20))), timeout=90):
            pass
        async for _ in stub.Generate(a_request(deadline=duration_to_proto(timedelta(seconds=900))), timeout=9):
            pass

    first, second = harness.worker.plans
    assert first.deadline == timedelta(seconds=20)
    assert timedelta(seconds=1) < second.deadline < timedelta(seconds=10)


async def test_embeddings_are_sent_with_their_cost() -> None:
    embedding = EmbeddingResult((b"\0\0\0\0",), worker_finished(reported(2, 0)))
    before = counted("answered", "orchestrator_embeddings_total")

    async with serving_stub(Harness(FakeWorkerClient(embedding=embedding))) as stub:
        answer = await stub.Embed(pb.EmbedRequest(request_id="req_1", model="all-minilm-l6-v2", inputs=["a"]))

    assert [vector.float32 for vector in answer.vectors] == [b"\0\0\0\0"]
    assert answer.cost.nano_usd == 2 * 10
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 0)
    assert answer.usage.source != USAGE_SOURCE_COUNTED
    assert counted("answered", "orchestrator_embeddings_total") == before + 1


async def test_vectors_are_sent_in_pieces_once_they_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("values.embeddings.PIECE_BYTES", 4)
    embedding = EmbeddingResult((b"1111", b"2222", b"3333"), worker_finished(reported(2, 0)))
    harness = Harness(FakeWorkerClient(embedding=embedding))
    request = pb.EmbedRequest(request_id="req_1", model="all-minilm-l6-v2", inputs=["a", "b", "c"])

    async with serving_stub(harness) as stub:
        call = stub.EmbedInPieces(pb.EmbedInPiecesRequest(request=request))
        first = (await call.read()).piece
        (attempt,) = (await harness.usage).attempts
        others = [one.piece async for one in call]

    assert attempt.usage == reported(2, 0)
    assert (first.cost.nano_usd, first.usage.input_tokens) == (2 * 10, 2)
    pieces = [first, *others]
    assert [[vector.float32 for vector in piece.vectors] for piece in pieces] == [[b"1111"], [b"2222"], [b"3333"]]
    assert not any(piece.HasField("usage") or piece.HasField("cost") for piece in others)


async def test_a_caller_that_reads_no_further_pieces_changes_nothing_of_the_bill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("values.embeddings.PIECE_BYTES", 4)
    embedding = EmbeddingResult((b"1111", b"2222"), worker_finished(reported(2, 0)))
    harness = Harness(FakeWorkerClient(embedding=embedding))
    request = pb.EmbedRequest(request_id="req_1", model="all-minilm-l6-v2", inputs=["a", "b"])

    async with serving_stub(harness) as stub:
        call = stub.EmbedInPieces(pb.EmbedInPiecesRequest(request=request))
        await call.read()
        call.cancel()

        assert [one.usage for one in (await harness.usage).attempts] == [reported(2, 0)]
        assert not harness.crashes


async def test_a_tenant_whose_vectors_wait_to_be_read_gets_no_more_before_a_provider_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("values.embeddings.PIECE_BYTES", WINDOW)
    monkeypatch.setattr("orchestrator.embeddings.grpc.MAX_UNREAD_OF_TENANT", WINDOW)
    vectors = tuple(bytes([n]) * WINDOW for n in range(4))
    harness = Harness(FakeWorkerClient(embedding=EmbeddingResult(vectors, worker_finished(reported(2, 0)))))

    def request(request_id: str) -> pb.EmbedInPiecesRequest:
        inputs = ["a"] * len(vectors)
        return pb.EmbedInPiecesRequest(
            request=pb.EmbedRequest(request_id=request_id, model="all-minilm-l6-v2", inputs=inputs)
        )

    async with serving_stub(harness) as stub:
        slow = stub.EmbedInPieces(request("req_1"))
        await slow.read()
        with pytest.raises(RemoteError) as refused:
            await stub.EmbedInPieces(request("req_2")).read()
        with as_caller(a_caller(a_principal("ten_other"))):
            assert await stub.EmbedInPieces(request("req_3")).read()
        assert len(harness.worker.embedding_plans) == 2
        monkeypatch.setattr("orchestrator.embeddings.grpc.MAX_UNREAD", WINDOW)
        with as_caller(a_caller(a_principal("ten_third"))), pytest.raises(RemoteError) as full:
            await stub.EmbedInPieces(request("req_4")).read()
        monkeypatch.setattr("orchestrator.embeddings.grpc.MAX_UNREAD", 10 * WINDOW)
        assert len([one async for one in slow]) == 3
        assert len([one async for one in stub.EmbedInPieces(request("req_5"))]) == 4

    assert (refused.value.kind, refused.value.reason) == (Kind.THROTTLED, "TOO_MUCH_IN_FLIGHT")
    assert (full.value.kind, full.value.reason) == (Kind.UNAVAILABLE, "OVERLOADED")


async def test_models_are_listed_by_name_with_their_task() -> None:
    async with serving_stub(Harness()) as stub:
        listed = await stub.ListModels(pb.ListModelsRequest())

    assert [(model.name, model.task) for model in listed.models] == [
        ("all-minilm-l6-v2", pb.MODEL_TASK_EMBEDDING),
        ("smollm2", pb.MODEL_TASK_CHAT),
    ]
    assert listed.models[0].created_at.seconds > 0


async def test_a_call_without_a_principal_is_refused() -> None:
    harness = Harness()
    async with serving((add_OrchestrationServiceServicer_to_server, harness.servicer, NAME)) as channel:
        with pytest.raises(RemoteError) as refused:
            await OrchestrationServiceStub(channel).ListModels(pb.ListModelsRequest())

    assert refused.value.reason == "PRINCIPAL_INVALID"


@pytest.mark.parametrize("method", [method for method in METHODS if method.name in vars(OrchestrationServicer)])
async def test_every_method_refuses_a_caller_that_is_no_member(method: Any) -> None:
    async def call(stub: Any) -> None:
        request = getattr(pb, method.input_type.name)()
        if method.server_streaming:
            await anext(aiter(getattr(stub, method.name)(request)))
        else:
            await getattr(stub, method.name)(request)

    async with serving_stub(Harness()) as stub:
        with as_caller(a_caller(a_principal(roles=["platform_admin"]))), pytest.raises(RemoteError) as refused:
            await call(stub)
    assert refused.value.reason == "PERMISSION_DENIED"
