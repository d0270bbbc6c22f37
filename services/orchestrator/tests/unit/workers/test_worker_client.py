"""The worker client, against a servicer that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_COUNTED, USAGE_SOURCE_REPORTED, Error, TokenUsage
from argosy.inference.v1 import inference_pb2 as inference
from chassis.errors import Internal, Kind, RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving
from orchestrator.errors import WorkerOutdated, is_refusal
from orchestrator.reservations.model import TokenBound
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import (
    Candidate,
    Chunk,
    EmbeddingPlan,
    EmbeddingResult,
    Event,
    Finished,
    Plan,
    RerankPlan,
    Started,
)
from orchestrator.workers.worker_client import GrpcWorkerClient
from values.protos import proto_to_duration
from values.usage import UNKNOWN_USAGE, UsageSource
from values.usage import TokenUsage as Usage

from services.orchestrator.tests.peers import OlderWorker, ScriptedWorker

Response = inference.InferResponse
SECOND = timedelta(seconds=1)
BOUND = TokenBound("local/m", 10, 20)
PLAN = Plan("req_1", (Candidate("local", "m", BOUND, b'{"a":1}'),), True, 9 * SECOND, 3 * SECOND, 2 * SECOND)
EMBEDDING_PLAN = EmbeddingPlan("req_1", (Candidate("minilm", "e", BOUND),), ("a", "b"), 128, 9 * SECOND)


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    with as_caller(a_caller(request_id="req_1")):
        yield


@asynccontextmanager
async def a_worker(servicer: ScriptedWorker) -> AsyncIterator[GrpcWorkerClient]:
    async with serving(servicer.registration) as channel:
        yield GrpcWorkerClient(channel)


FINISHED = inference.Finished(
    attempts=[
        inference.Attempt(number=1, candidate=0, usage=TokenUsage(source=USAGE_SOURCE_REPORTED)),
        inference.Attempt(
            number=2, candidate=0, usage=TokenUsage(source=USAGE_SOURCE_COUNTED, input_tokens=7, output_tokens=0)
        ),
    ],
    error=Error(kind="upstream", reason="UPSTREAM_INTERRUPTED", message="it broke off"),
    usage_payload=b'{"usage":{}}',
)
ATTEMPTS = (Attempt(1, 0, Usage(UsageSource.REPORTED)), Attempt(2, 0, Usage(UsageSource.COUNTED, 7, 0)))


def assert_finished(event: Event, attempts: tuple[Attempt, ...], usage_payload: bytes = b"") -> None:
    assert isinstance(event, Finished)
    assert (event.attempts, event.usage_payload) == (attempts, usage_payload)
    assert isinstance(event.error, RemoteError)
    assert (event.error.kind, event.error.reason) == (Kind.UPSTREAM, "UPSTREAM_INTERRUPTED")
    assert event.error.message == "it broke off"


async def _events(worker: GrpcWorkerClient) -> list[Event]:
    events: list[Event] = []
    async with worker.infer(PLAN) as call:
        while not events or not isinstance(events[-1], Finished):
            events.append(await call.read())
    return events


async def _leave_early(worker: GrpcWorkerClient) -> None:
    async with worker.infer(PLAN) as call:
        await call.read()
        raise ZeroDivisionError


class SingleCallChannel(Channel):
    """A channel on which every streamed call is the same one."""

    def __init__(self, single_call: Any) -> None:
        super().__init__("127.0.0.1:1", "the worker")
        self.single_call = single_call

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        return lambda **__: self.single_call


class TestWorker:
    async def test_runs_a_plan_to_its_end(self) -> None:
        async def play(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            yield Response(chunk=inference.Chunk(payloads=[b"1", b"2"]))
            yield Response(finished=FINISHED)

        servicer = ScriptedWorker(play)
        async with a_worker(servicer) as worker:
            await worker.wait_ready(60 * SECOND)
            events = await _events(worker)

            async with asyncio.timeout(30):
                await servicer.ended.wait()
            assert not servicer.cancelled.is_set()
        assert events[0] == Started(0)
        assert isinstance(events[1], Chunk)
        assert list(events[1].payloads) == [b"1", b"2"]
        assert_finished(events[2], ATTEMPTS, b'{"usage":{}}')
        run = servicer.requests[0].run
        assert (run.request_id, run.plan.stream) == ("req_1", True)
        assert [(one.upstream, one.model, one.body) for one in run.plan.candidates] == [("local", "m", b'{"a":1}')]
        times = (run.plan.deadline, run.plan.first_byte_timeout, run.plan.idle_timeout)
        assert [proto_to_duration(time) for time in times] == [9 * SECOND, 3 * SECOND, 2 * SECOND]

    async def test_stopped_early_still_finishes(self) -> None:
        async def play(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            worker.requests.append(await anext(requests))
            yield Response(finished=FINISHED)

        servicer = ScriptedWorker(play)
        async with a_worker(servicer) as worker, worker.infer(PLAN) as call:
            await call.read()
            call.stop()
            call.stop()
            end = await call.read()

        assert_finished(end, ATTEMPTS, b'{"usage":{}}')
        assert [request.WhichOneof("request") for request in servicer.requests] == ["run", "stop"]

    async def test_left_before_finished_cancels_the_call(self) -> None:
        async def play(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            await asyncio.Event().wait()

        servicer = ScriptedWorker(play)
        async with a_worker(servicer) as worker:
            with pytest.raises(ZeroDivisionError):
                await _leave_early(worker)
            async with asyncio.timeout(30):
                await servicer.cancelled.wait()

    async def test_a_plan_that_cannot_be_sent_cancels_the_call(self) -> None:
        class Call:
            def __init__(self) -> None:
                self.cancelled = False

            async def write(self, request: Any) -> None:
                raise Unavailable("it is down")

            def cancel(self) -> bool:
                self.cancelled = True
                return True

        call = Call()
        worker = GrpcWorkerClient(SingleCallChannel(call))
        with pytest.raises(Unavailable):
            await _events(worker)

        assert call.cancelled

    async def test_a_refused_plan_is_a_refusal(self) -> None:
        refusal = RemoteError(Kind.THROTTLED, "TOO_MANY_PLANS", "later")

        async def play(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            for response in (refusal,):
                raise response
            yield Response()

        async with a_worker(ScriptedWorker(play)) as worker:
            with pytest.raises(RemoteError) as refused:
                await _events(worker)

        assert is_refusal(refused.value)

    async def test_a_call_that_ends_without_finished_is_unavailable(self) -> None:
        async def play(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))

        async with a_worker(ScriptedWorker(play)) as worker:
            with pytest.raises(Unavailable) as interrupted:
                await _events(worker)

        assert not is_refusal(interrupted.value)

    async def test_without_a_server_no_worker_is_ready(self) -> None:
        async with Channel(f"127.0.0.1:{free_port()}", "the worker") as channel:
            with pytest.raises(Unavailable):
                await GrpcWorkerClient(channel).wait_ready(timedelta(milliseconds=50))

    async def test_embeds(self) -> None:
        embedded = inference.EmbedResponse(
            vectors=[inference.Vector(float32=b"\0\0\0\0"), inference.Vector(float32=b"\0\0\x80?")],
            attempts=[FINISHED.attempts[1]],
        )
        servicer = ScriptedWorker(embedded=embedded)
        async with a_worker(servicer) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        attempt = Attempt(2, 0, Usage(UsageSource.COUNTED, 7, 0))
        assert answer == EmbeddingResult((b"\0\0\0\0", b"\0\0\x80?"), Finished((attempt,)))
        request = servicer.embed_request
        assert request is not None
        assert (list(request.inputs), request.dimensions) == (["a", "b"], 128)
        assert not request.refuse_truncation

    async def test_texts_that_would_be_cut_are_refused_when_asked_to(self) -> None:
        servicer = ScriptedWorker(embedded=inference.EmbedResponse(vectors=[inference.Vector()] * 2))
        async with a_worker(servicer) as worker:
            await worker.embed(replace(EMBEDDING_PLAN, refuse_truncation=True))

        assert servicer.embed_request is not None
        assert servicer.embed_request.refuse_truncation

    async def test_embeds_in_pieces(self) -> None:
        vectors = [inference.Vector(float32=b"\0\0\0\0"), inference.Vector(float32=b"\0\0\x80?")]
        first = inference.EmbedResponse(attempts=[FINISHED.attempts[1]])
        pieces = [first, *(inference.EmbedResponse(vectors=[vector]) for vector in vectors)]
        async with a_worker(ScriptedWorker(embedded=pieces)) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        attempt = Attempt(2, 0, Usage(UsageSource.COUNTED, 7, 0))
        assert answer == EmbeddingResult((b"\0\0\0\0", b"\0\0\x80?"), Finished((attempt,)))

    @pytest.mark.parametrize("error", [Unavailable("away"), RemoteError(Kind.INVALID, "INVALID_REQUEST", "no")])
    async def test_an_answer_that_breaks_off_is_not_taken_for_a_refusal(self, error: Exception) -> None:
        first = inference.EmbedResponse(attempts=[FINISHED.attempts[1]], vectors=[inference.Vector()])
        async with a_worker(ScriptedWorker(embedded=[first, error])) as worker:
            with pytest.raises(Unavailable) as broken:
                await worker.embed(EMBEDDING_PLAN)

        assert not is_refusal(broken.value)

    async def test_a_refusal_before_the_first_piece_is_one(self) -> None:
        async with a_worker(ScriptedWorker(embedded=RemoteError(Kind.INVALID, "INVALID_REQUEST", "no"))) as worker:
            with pytest.raises(RemoteError) as refused:
                await worker.embed(EMBEDDING_PLAN)

        assert is_refusal(refused.value)

    async def test_an_older_worker_embeds_in_one_message(self) -> None:
        vectors = [inference.Vector(float32=b"\0\0\0\0"), inference.Vector(float32=b"\0\0\x80?")]
        embedded = inference.EmbedResponse(vectors=vectors, attempts=[FINISHED.attempts[1]])
        async with a_worker(OlderWorker(embedded=embedded)) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        assert answer.vectors == (b"\0\0\0\0", b"\0\0\x80?")

    async def test_an_older_worker_refuses_to_score_and_has_done_nothing(self) -> None:
        plan = RerankPlan("req_1", (Candidate("local", "overlap", BOUND),), "a ship", ("a", "b"), 9 * SECOND)
        async with a_worker(OlderWorker()) as worker:
            with pytest.raises(WorkerOutdated) as refused:
                await worker.rerank(plan)

        assert (refused.value.kind, is_refusal(refused.value)) == (Kind.UNAVAILABLE, True)

    async def test_a_failed_embedding_has_its_attempts(self) -> None:
        embedded = inference.EmbedResponse(attempts=[inference.Attempt(number=1)], error=FINISHED.error)
        async with a_worker(ScriptedWorker(embedded=embedded)) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        assert_finished(answer.finished, (Attempt(1, 0, UNKNOWN_USAGE),))

    async def test_too_few_vectors_are_an_internal_error(self) -> None:
        embedded = inference.EmbedResponse(vectors=[inference.Vector()])
        async with a_worker(ScriptedWorker(embedded=embedded)) as worker:
            with pytest.raises(Internal):
                await worker.embed(EMBEDDING_PLAN)
