"""The other services over gRPC, each played by a servicer that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_COUNTED, USAGE_SOURCE_REPORTED, Money, TokenUsage
from argosy.inference.v1 import inference_pb2 as inference
from argosy.metering.v1 import metering_pb2 as metering
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from chassis.errors import DeadlineExceeded, Internal, Kind, RemoteError, Unavailable
from chassis.grpc import Channel, proto_to_duration
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving
from orchestrator.adapters.metering import GrpcMetering
from orchestrator.adapters.retrieval import GrpcRetrieval
from orchestrator.adapters.worker import GrpcWorker
from orchestrator.domain.errors import is_refusal
from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.plan import Bound, Candidate, EmbeddingPlan, Plan
from orchestrator.domain.ports import Answering, Embedding, Event, Failure, Finished, Passage, Payloads, Reservation
from orchestrator.domain.usage import UNKNOWN, Attempt, UsageSource
from orchestrator.domain.usage import TokenUsage as Usage

from services.orchestrator.tests.peers import ScriptedMetering, ScriptedRetrieval, ScriptedWorker

Response = inference.InferResponse
SECOND = timedelta(seconds=1)
BOUND = Bound("local/m", 10, 20)
PLAN = Plan("req_1", (Candidate("local", "m", BOUND, b'{"a":1}'),), True, 9 * SECOND, 3 * SECOND, 2 * SECOND)
EMBEDDING_PLAN = EmbeddingPlan("req_1", (Candidate("minilm", "e", BOUND),), ("a", "b"), 128, 9 * SECOND)


@pytest.fixture(autouse=True)
def caller():
    with as_caller(a_caller(request_id="req_1")) as caller:
        yield caller


@asynccontextmanager
async def a_worker(servicer: ScriptedWorker) -> AsyncIterator[GrpcWorker]:
    async with serving(servicer.registration) as channel:
        yield GrpcWorker(channel)


FINISHED = inference.Finished(
    attempts=[
        inference.Attempt(number=1, candidate=0, usage=TokenUsage(source=USAGE_SOURCE_REPORTED)),
        inference.Attempt(
            number=2, candidate=0, usage=TokenUsage(source=USAGE_SOURCE_COUNTED, input_tokens=7, output_tokens=0)
        ),
    ],
    failure=inference.Failure(reason="UPSTREAM_CUT", message="it broke off"),
    usage_payload=b'{"usage":{}}',
)
ACCOUNT = Finished(
    (Attempt(1, 0, Usage(UsageSource.REPORTED)), Attempt(2, 0, Usage(UsageSource.COUNTED, 7, 0))),
    Failure("UPSTREAM_CUT", "it broke off"),
    b'{"usage":{}}',
)


async def _events(worker: GrpcWorker) -> list[Event]:
    events: list[Event] = []
    async with worker.infer(PLAN) as running:
        while not events or not isinstance(events[-1], Finished):
            events.append(await running.read())
    return events


async def _leave_early(worker: GrpcWorker) -> None:
    async with worker.infer(PLAN) as running:
        await running.read()
        raise ZeroDivisionError


class ChannelOf(Channel):
    """A channel on which every streamed call is the same one."""

    def __init__(self, call: Any) -> None:
        super().__init__("127.0.0.1:1", "the worker")
        self.call = call

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        return lambda **__: self.call


class TestWorker:
    async def test_runs_a_plan_and_is_heard_to_its_end(self):
        async def say(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            yield Response(chunk=inference.Chunk(payloads=[b"1", b"2"]))
            yield Response(finished=FINISHED)

        servicer = ScriptedWorker(say)
        async with a_worker(servicer) as worker:
            await worker.reach(SECOND)
            events = await _events(worker)

            async with asyncio.timeout(5):
                await servicer.ended.wait()
            assert not servicer.cancelled.is_set()
        assert events[0] == Answering(0)
        assert isinstance(events[1], Payloads)
        assert list(events[1].payloads) == [b"1", b"2"]
        assert events[2] == ACCOUNT
        run = servicer.heard[0].run
        assert (run.request_id, run.plan.stream) == ("req_1", True)
        assert [(one.upstream, one.model, one.body) for one in run.plan.candidates] == [("local", "m", b'{"a":1}')]
        times = (run.plan.deadline, run.plan.first_byte_timeout, run.plan.idle_timeout)
        assert [proto_to_duration(time) for time in times] == [9 * SECOND, 3 * SECOND, 2 * SECOND]

    async def test_stopped_early_still_gives_its_account(self):
        async def say(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            worker.heard.append(await anext(requests))
            yield Response(finished=FINISHED)

        servicer = ScriptedWorker(say)
        async with a_worker(servicer) as worker, worker.infer(PLAN) as running:
            await running.read()
            running.stop()
            running.stop()
            account = await running.read()

        assert account == ACCOUNT
        assert [request.WhichOneof("request") for request in servicer.heard] == ["run", "stop"]

    async def test_left_before_its_account_is_cancelled(self):
        async def say(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))
            await asyncio.Event().wait()

        servicer = ScriptedWorker(say)
        async with a_worker(servicer) as worker:
            with pytest.raises(ZeroDivisionError):
                await _leave_early(worker)
            async with asyncio.timeout(5):
                await servicer.cancelled.wait()

    async def test_that_cannot_be_sent_the_plan_is_left_at_once(self):
        class Call:
            def __init__(self) -> None:
                self.cancelled = False

            async def write(self, request: Any) -> None:
                raise Unavailable("it is gone")

            def cancel(self) -> bool:
                self.cancelled = True
                return True

        call = Call()
        worker = GrpcWorker(ChannelOf(call))
        with pytest.raises(Unavailable):
            await _events(worker)

        assert call.cancelled

    async def test_that_refuses_the_plan_is_a_refusal(self):
        async def say(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            raise RemoteError(Kind.THROTTLED, "TOO_MANY_PLANS", "later")
            yield Response()

        async with a_worker(ScriptedWorker(say)) as worker:
            with pytest.raises(RemoteError) as refused:
                await _events(worker)

        assert is_refusal(refused.value)

    async def test_that_ends_without_an_account_broke_off(self):
        async def say(worker: Any, requests: Any) -> AsyncIterator[inference.InferResponse]:
            yield Response(started=inference.Started(candidate=0))

        async with a_worker(ScriptedWorker(say)) as worker:
            with pytest.raises(Unavailable) as broken:
                await _events(worker)

        assert not is_refusal(broken.value)

    async def test_that_nobody_serves_is_out_of_reach(self):
        async with Channel(f"127.0.0.1:{free_port()}", "the worker") as channel:
            with pytest.raises(Unavailable):
                await GrpcWorker(channel).reach(timedelta(milliseconds=50))

    async def test_embeds(self):
        embedded = inference.EmbedResponse(
            vectors=[inference.Vector(float32=b"\0\0\0\0"), inference.Vector(float32=b"\0\0\x80?")],
            attempts=[FINISHED.attempts[1]],
        )
        servicer = ScriptedWorker(embedded=embedded)
        async with a_worker(servicer) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        attempt = Attempt(2, 0, Usage(UsageSource.COUNTED, 7, 0))
        assert answer == Embedding((b"\0\0\0\0", b"\0\0\x80?"), Finished((attempt,)))
        assert servicer.asked is not None
        assert (list(servicer.asked.inputs), servicer.asked.dimensions) == (["a", "b"], 128)

    async def test_fails_to_embed_with_an_account(self):
        embedded = inference.EmbedResponse(attempts=[inference.Attempt(number=1)], failure=FINISHED.failure)
        async with a_worker(ScriptedWorker(embedded=embedded)) as worker:
            answer = await worker.embed(EMBEDDING_PLAN)

        assert answer.finished == Finished((Attempt(1, 0, UNKNOWN),), Failure("UPSTREAM_CUT", "it broke off"))

    async def test_that_answers_with_too_few_vectors_has_a_bug(self):
        embedded = inference.EmbedResponse(vectors=[inference.Vector()])
        async with a_worker(ScriptedWorker(embedded=embedded)) as worker:
            with pytest.raises(Internal):
                await worker.embed(EMBEDDING_PLAN)


@asynccontextmanager
async def a_metering(servicer: ScriptedMetering) -> AsyncIterator[GrpcMetering]:
    async with serving(servicer.registration) as channel:
        yield GrpcMetering(channel)


class TestMetering:
    async def test_reserves_for_the_caller(self):
        price = metering.Price(
            price_key="local/m",
            version="prc_1",
            input_per_million=Money(nano_usd=50),
            output_per_million=Money(nano_usd=0),
        )
        reserved = metering.ReserveResponse(held=Money(nano_usd=77), prices=[price], soft_limit_passed=True)
        servicer = ScriptedMetering(reserved)
        async with a_metering(servicer) as adapter:
            reservation = await adapter.reserve("req_1", [BOUND], 600 * SECOND, SECOND)

        assert reservation == Reservation(
            NanoUsd(77), (Price("local/m", "prc_1", NanoUsd(50), NanoUsd(0)),), soft_limit_passed=True
        )
        assert servicer.tenant == "ten_test"
        assert servicer.asked == metering.ReserveRequest(
            request_id="req_1",
            bounds=[metering.Bound(price_key="local/m", input_tokens=10, output_tokens=20)],
            lease=servicer.asked.lease if servicer.asked else None,
        )
        assert servicer.asked is not None
        assert proto_to_duration(servicer.asked.lease) == 600 * SECOND

    async def test_refuses_in_its_own_words(self):
        refusal = RemoteError(Kind.INVALID, "UNPRICED_MODEL", "local/m has no price")
        async with a_metering(ScriptedMetering(refusal)) as adapter:
            with pytest.raises(RemoteError) as refused:
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, SECOND)

        assert (refused.value.reason, refused.value.message) == ("UNPRICED_MODEL", "local/m has no price")
        assert is_refusal(refused.value)

    async def test_that_is_silent_may_have_done_it(self):
        async with a_metering(ScriptedMetering(None)) as adapter:
            with pytest.raises(DeadlineExceeded) as silent:
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, timedelta(milliseconds=50))

        assert not is_refusal(silent.value)

    async def test_that_forgets_a_price_has_a_bug(self):
        async with a_metering(ScriptedMetering(metering.ReserveResponse())) as adapter:
            with pytest.raises(Internal):
                await adapter.reserve("req_1", [BOUND], 600 * SECOND, SECOND)


@asynccontextmanager
async def a_retrieval(servicer: ScriptedRetrieval) -> AsyncIterator[GrpcRetrieval]:
    async with serving(servicer.registration) as channel:
        yield GrpcRetrieval(channel)


class TestRetrieval:
    async def test_finds_passages(self):
        found = retrieval.Passage(
            file_id="file-1", filename="a.pdf", page=3, text="words", score=0.25, vector_store_id="vs_1"
        )
        servicer = ScriptedRetrieval(retrieval.SearchResponse(passages=[found]))
        async with a_retrieval(servicer) as adapter:
            passages = await adapter.search(["vs_1"], "what?", 4, SECOND)

        assert passages == [Passage("file-1", "a.pdf", 3, "words", 0.25)]
        assert servicer.asked == retrieval.SearchRequest(vector_store_ids=["vs_1"], query="what?", limit=4)

    async def test_refuses_in_its_own_words(self):
        refusal = RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "no such store")
        async with a_retrieval(ScriptedRetrieval(refusal)) as adapter:
            with pytest.raises(RemoteError) as refused:
                await adapter.search(["vs_1"], "what?", 4, SECOND)

        assert refused.value.reason == "VECTOR_STORE_NOT_FOUND"
