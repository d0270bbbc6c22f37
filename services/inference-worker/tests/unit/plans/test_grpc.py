import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2 as pb
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub, add_InferenceServiceServicer_to_server
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, InvalidRequest, Kind
from chassis.grpc import duration_to_proto
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from inference_worker.api.convert import (
    OUTCOMES,
    SOURCES,
    from_proto_embedding,
    from_proto_plan,
    to_proto_finished,
)
from inference_worker.api.servicer import InferenceServicer
from inference_worker.domain.account import Attempt, Outcome
from inference_worker.domain.infer import Finished
from inference_worker.domain.usage import Usage, UsageSource
from provider_contract import until
from worker_fakes import WORDS, FakeEmbedder, FakeJournal, FakeProvider, a_body, an_upstream, text_of

SERVICE = "argosy.inference.v1.InferenceService"


def a_run(*models: str, stream: bool = True, **seconds: float) -> pb.InferRequest:
    candidates = [pb.Candidate(upstream="fake", model=model, body=a_body(model, stream=stream)) for model in models]
    plan = pb.Plan(candidates=candidates, stream=stream)
    for name, value in {"deadline": 10.0, **seconds}.items():
        getattr(plan, name).CopyFrom(duration_to_proto(timedelta(seconds=value)))
    return pb.InferRequest(run=pb.Run(request_id="req_1", plan=plan))


STOP = pb.InferRequest(stop=pb.Stop())


class World:
    """A served worker whose upstreams are fakes."""

    def __init__(self, max_in_flight: int = 10) -> None:
        self.provider, self.embedder, self.journal = FakeProvider(), FakeEmbedder(), FakeJournal()
        self._servicer = InferenceServicer(
            upstreams={"fake": an_upstream(self.provider, self.embedder)},
            journal=self.journal,
            clock=SystemClock(),
            max_in_flight=max_in_flight,
        )

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[InferenceServiceStub]:
        registration = (add_InferenceServiceServicer_to_server, self._servicer, SERVICE)
        with as_caller(a_caller()):
            async with serving(registration) as channel:
                yield InferenceServiceStub(channel)


@pytest.fixture
def world() -> World:
    return World()


async def infer(stub: InferenceServiceStub, *requests: pb.InferRequest) -> list[Any]:
    async def wishes() -> AsyncIterator[pb.InferRequest]:
        for request in requests:
            yield request

    return [response async for response in stub.Infer(wishes())]


async def test_a_plan_is_run_over_the_wire(world: World):
    async with world.serve() as stub:
        responses = await infer(stub, a_run("500", "instant"))

    assert [response.WhichOneof("event") for response in responses] == ["started", "chunk", "chunk", "finished"]
    assert responses[0].started.candidate == 1
    assert text_of([payload for one in responses for payload in one.chunk.payloads]) == "".join(WORDS)
    finished = responses[-1].finished
    assert not finished.HasField("failure")
    refused, answered = finished.attempts
    assert refused.outcome == pb.ATTEMPT_OUTCOME_REJECTED
    assert (refused.usage.input_tokens, refused.usage.HasField("input_tokens")) == (0, True)
    assert not refused.HasField("first_byte_after")
    assert (answered.number, answered.candidate) == (2, 1)
    assert answered.usage.source == common_pb2.USAGE_SOURCE_REPORTED
    assert (answered.usage.input_tokens, answered.usage.output_tokens) == (2, 8)
    assert answered.duration.ToTimedelta() >= answered.first_byte_after.ToTimedelta()


async def test_a_failed_plan_ends_with_its_failure_and_not_with_a_status(world: World):
    async with world.serve() as stub:
        (response,) = await infer(stub, a_run("400"))

    assert response.finished.failure.reason == "UPSTREAM_REFUSED"
    assert response.finished.failure.message == "simulated 400"


async def test_unknown_usage_is_absent_on_the_wire(world: World):
    async with world.serve() as stub:
        (response,) = await infer(stub, a_run("timeout", first_byte_timeout=0.02))

    (attempt,) = response.finished.attempts
    assert attempt.outcome == pb.ATTEMPT_OUTCOME_TIMED_OUT
    assert attempt.usage.source == common_pb2.USAGE_SOURCE_UNKNOWN
    assert not attempt.usage.HasField("input_tokens")
    assert not attempt.usage.HasField("output_tokens")


async def test_stop_ends_the_plan_with_its_account(world: World):
    async with world.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        assert (await call.read()).WhichOneof("event") == "started"
        assert (await call.read()).WhichOneof("event") == "chunk"

        await call.write(STOP)
        finished = (await call.read()).finished

        assert await call.read() is grpc.aio.EOF
    assert world.provider.answers[0].aborted
    assert finished.failure.reason == "STOPPED"
    (attempt,) = finished.attempts
    assert attempt.outcome == pb.ATTEMPT_OUTCOME_CANCELLED
    assert attempt.usage.source == common_pb2.USAGE_SOURCE_COUNTED
    assert attempt.usage.output_tokens == 3


async def test_a_caller_that_says_nothing_more_is_served_to_the_end(world: World):
    async with world.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("instant"))
        await call.done_writing()
        responses = [response async for response in call]

    assert responses[-1].WhichOneof("event") == "finished"


async def test_a_cancelled_call_breaks_off_the_upstream(world: World):
    async with world.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        await call.read()
        await call.read()

        call.cancel()

        await until(lambda: world.journal.ended)
    assert world.provider.answers[0].aborted


@pytest.mark.parametrize(
    "requests",
    [[], [STOP], [pb.InferRequest()], [pb.InferRequest(run=pb.Run(plan=pb.Plan()))]],
)
async def test_a_call_without_a_plan_is_refused(world: World, requests: list[pb.InferRequest]):
    async with world.serve() as stub:
        with pytest.raises(ArgosyError) as caught:
            await infer(stub, *requests)

    assert caught.value.kind is Kind.INVALID


async def test_a_second_run_is_not_begun(world: World):
    async with world.serve() as stub:
        await infer(stub, a_run("instant"), a_run("instant"))

    assert world.provider.opened == ["instant"]


async def test_a_full_worker_turns_plans_and_embeddings_away():
    world = World(max_in_flight=1)
    async with world.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        await call.read()

        with pytest.raises(ArgosyError) as caught:
            await infer(stub, a_run("instant"))
        with pytest.raises(ArgosyError):
            await stub.Embed(an_embed_request())

        call.cancel()
        await until(lambda: world.journal.ended)
        await infer(stub, a_run("instant"))
    assert caught.value.kind is Kind.UNAVAILABLE


async def test_a_call_without_a_principal_is_refused(world: World):
    registration = (add_InferenceServiceServicer_to_server, world._servicer, SERVICE)
    async with serving(registration) as channel:
        with pytest.raises(ArgosyError) as caught:
            await InferenceServiceStub(channel).Embed(an_embed_request())

    assert caught.value.kind is Kind.UNAUTHENTICATED


async def test_texts_are_embedded_over_the_wire(world: World):
    async with world.serve() as stub:
        response = await stub.Embed(an_embed_request())

    assert [len(vector.float32) for vector in response.vectors] == [8, 8]
    assert not response.HasField("failure")
    assert response.attempts[0].usage.input_tokens == 5
    assert response.attempts[0].usage.HasField("output_tokens")


async def test_an_embedding_that_fails_says_why(world: World):
    async with world.serve() as stub:
        response = await stub.Embed(an_embed_request("500"))

    assert not response.vectors
    assert response.failure.reason == "UPSTREAM_FAILED"
    assert response.attempts[0].outcome == pb.ATTEMPT_OUTCOME_REJECTED


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (pb.EmbedRequest(inputs=[]), "inputs"),
        (pb.EmbedRequest(inputs=["a", ""]), "inputs"),
        (pb.EmbedRequest(inputs=["a"] * 2049), "inputs"),
        (pb.EmbedRequest(inputs=["a"], dimensions=-1), "dimensions"),
        (pb.EmbedRequest(inputs=["a"]), "candidates"),
        (pb.EmbedRequest(inputs=["a"], candidates=[pb.Candidate(upstream="fake")]), "candidates"),
    ],
)
def test_an_embedding_that_makes_no_sense_is_refused(request_: pb.EmbedRequest, param: str):
    with pytest.raises(InvalidRequest) as caught:
        from_proto_embedding(request_)

    assert caught.value.param == param


def test_a_plan_that_makes_no_sense_is_refused():
    candidate = pb.Candidate(upstream="fake", model="m", body=b"{}")
    negative = duration_to_proto(timedelta(seconds=-1))

    for plan, param in [
        (pb.Plan(), "plan.candidates"),
        (pb.Plan(candidates=[candidate] * 17), "plan.candidates"),
        (pb.Plan(candidates=[pb.Candidate(upstream="fake", model="m")]), "plan.candidates.body"),
        (pb.Plan(candidates=[candidate], deadline=negative), "deadline"),
        (pb.Plan(candidates=[candidate], idle_timeout=negative), "idle_timeout"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            from_proto_plan(plan)
        assert caught.value.param == param


def test_a_plan_without_times_gets_the_usual_ones():
    plan = from_proto_plan(pb.Plan(candidates=[pb.Candidate(upstream="fake", model="m", body=b"{}")]))

    assert plan.deadline == timedelta(minutes=10)
    assert plan.first_byte_timeout == timedelta(minutes=1)
    assert plan.idle_timeout == timedelta(minutes=1)


def test_a_time_of_nothing_is_present_on_the_wire():
    usage, nothing = Usage(UsageSource.REPORTED, 1, 1), timedelta(0)
    finished = Finished((Attempt(1, 0, Outcome.ANSWERED, usage, nothing, timedelta(days=1, microseconds=7)),), None)

    (attempt,) = to_proto_finished(finished).finished.attempts

    assert attempt.HasField("first_byte_after")
    assert attempt.duration.ToTimedelta() == timedelta(days=1, microseconds=7)


def test_every_outcome_and_every_source_has_a_word_on_the_wire():
    assert set(OUTCOMES) == set(Outcome)
    assert set(SOURCES) == set(UsageSource)
    assert len(set(OUTCOMES.values())) == len(Outcome)


def an_embed_request(model: str = "instant") -> pb.EmbedRequest:
    return pb.EmbedRequest(
        candidates=[pb.Candidate(upstream="fake", model=model)],
        inputs=["a b", "c"],
        deadline=duration_to_proto(timedelta(seconds=5)),
    )


async def test_many_plans_run_at_once(world: World):
    async with world.serve() as stub:
        answers = await asyncio.gather(*(infer(stub, a_run("instant")) for _ in range(10)))

    assert all(responses[-1].finished.attempts[0].outcome == pb.ATTEMPT_OUTCOME_SUCCEEDED for responses in answers)
