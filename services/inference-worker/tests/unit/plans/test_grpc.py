import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from argosy.common.v1 import common_pb2
from argosy.inference.v1 import inference_pb2
from chassis.errors import ArgosyError, Kind
from provider_contract import until
from served_worker import ServedWorker, an_embed_request
from values.protos import duration_to_proto
from worker_fakes import WORDS, a_body, text_of

if TYPE_CHECKING:
    from argosy.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub


def a_run(*models: str, stream: bool = True, **seconds: float) -> inference_pb2.InferRequest:
    candidates = [
        inference_pb2.Candidate(upstream="fake", model=model, body=a_body(model, stream=stream)) for model in models
    ]
    plan = inference_pb2.Plan(candidates=candidates, stream=stream)
    for name, value in {"deadline": 10.0, **seconds}.items():
        getattr(plan, name).CopyFrom(duration_to_proto(timedelta(seconds=value)))
    return inference_pb2.InferRequest(run=inference_pb2.Run(request_id="req_1", plan=plan))


STOP = inference_pb2.InferRequest(stop=inference_pb2.Stop())


@pytest.fixture
def worker() -> ServedWorker:
    return ServedWorker()


async def infer(stub: "InferenceServiceAsyncStub", *requests: inference_pb2.InferRequest) -> list[Any]:
    """Send the requests, allow each attempt that is announced, and return the responses."""
    announced: asyncio.Queue[inference_pb2.InferRequest | None] = asyncio.Queue()

    async def send() -> AsyncIterator[inference_pb2.InferRequest]:
        for request in requests:
            yield request
        while requests and (proceed := await announced.get()) is not None:
            yield proceed

    responses = []
    try:
        async for response in stub.Infer(send()):
            responses.append(response)
            if response.WhichOneof("event") == "attempt_starting":
                number = response.attempt_starting.number
                announced.put_nowait(inference_pb2.InferRequest(proceed=inference_pb2.Proceed(attempt=number)))
    finally:
        announced.put_nowait(None)
    return responses


async def read(call: Any) -> inference_pb2.InferResponse:
    response = await call.read()
    assert isinstance(response, inference_pb2.InferResponse)
    return response


async def test_a_plan_is_run_over_the_wire(worker: ServedWorker):
    async with worker.serve() as stub:
        responses = await infer(stub, a_run("500", "instant"))

    assert [response.WhichOneof("event") for response in responses] == [
        *("attempt_starting", "started", "chunk", "chunk", "finished"),
    ]
    starting = responses[0].attempt_starting
    assert (starting.number, starting.candidate) == (2, 1)
    (ended,) = starting.ended
    assert (ended.number, ended.candidate, ended.outcome) == (1, 0, inference_pb2.ATTEMPT_OUTCOME_REJECTED)
    assert responses[1].started.candidate == 1
    assert text_of([payload for one in responses for payload in one.chunk.payloads]) == "".join(WORDS)
    finished = responses[-1].finished
    assert not finished.HasField("error")
    rejected, succeeded = finished.attempts
    assert rejected.outcome == inference_pb2.ATTEMPT_OUTCOME_REJECTED
    assert (rejected.usage.input_tokens, rejected.usage.HasField("input_tokens")) == (0, True)
    assert not rejected.HasField("first_byte_after")
    assert (succeeded.number, succeeded.candidate) == (2, 1)
    assert succeeded.usage.source == common_pb2.USAGE_SOURCE_REPORTED
    assert (succeeded.usage.input_tokens, succeeded.usage.output_tokens) == (2, 8)
    assert succeeded.duration.ToTimedelta() >= succeeded.first_byte_after.ToTimedelta()


async def test_a_failed_plan_ends_with_its_error_and_not_with_a_status(worker: ServedWorker):
    async with worker.serve() as stub:
        (response,) = await infer(stub, a_run("400"))

    error = response.finished.error
    assert (error.kind, error.reason, error.message) == (Kind.INVALID, "UPSTREAM_REJECTED", "simulated 400")


async def test_unknown_usage_is_absent_on_the_wire(worker: ServedWorker):
    async with worker.serve() as stub:
        (response,) = await infer(stub, a_run("timeout", first_byte_timeout=0.3))

    (attempt,) = response.finished.attempts
    assert attempt.outcome == inference_pb2.ATTEMPT_OUTCOME_TIMED_OUT
    assert attempt.usage.source == common_pb2.USAGE_SOURCE_UNKNOWN
    assert attempt.exposure_cause == common_pb2.EXPOSURE_CAUSE_PROVIDER
    assert not attempt.usage.HasField("input_tokens")
    assert not attempt.usage.HasField("output_tokens")


async def test_stop_ends_the_plan_with_its_attempts(worker: ServedWorker):
    async with worker.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        assert (await read(call)).WhichOneof("event") == "started"
        assert (await read(call)).WhichOneof("event") == "chunk"

        await call.write(STOP)
        finished = (await read(call)).finished

        assert await call.read() is grpc.aio.EOF
    assert worker.provider.completions[0].aborted
    assert finished.error.reason == "STOPPED"
    (attempt,) = finished.attempts
    assert attempt.outcome == inference_pb2.ATTEMPT_OUTCOME_CANCELLED
    assert attempt.usage.source == common_pb2.USAGE_SOURCE_COUNTED
    assert attempt.usage.output_tokens == 3


async def test_a_caller_that_closes_its_side_is_served_to_the_end(worker: ServedWorker):
    async with worker.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("instant"))
        await call.done_writing()
        responses = [response async for response in call]

    assert responses[-1].WhichOneof("event") == "finished"


async def test_a_cancelled_call_aborts_the_upstream(worker: ServedWorker):
    async with worker.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        await call.read()
        await call.read()

        call.cancel()

        await until(lambda: worker.observer.finished)
    assert worker.provider.completions[0].aborted


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [STOP],
        [inference_pb2.InferRequest()],
        [inference_pb2.InferRequest(run=inference_pb2.Run(plan=inference_pb2.Plan()))],
    ],
)
async def test_a_call_without_a_plan_is_refused(worker: ServedWorker, requests: list[inference_pb2.InferRequest]):
    async with worker.serve() as stub:
        with pytest.raises(ArgosyError) as caught:
            await infer(stub, *requests)

    assert caught.value.kind is Kind.INVALID


async def test_a_second_run_is_ignored(worker: ServedWorker):
    async with worker.serve() as stub:
        await infer(stub, a_run("instant"), a_run("instant"))

    assert worker.provider.opened == ["instant"]


async def test_a_worker_at_capacity_rejects_plans_and_embeddings():
    worker = ServedWorker(max_in_flight=1)
    async with worker.serve() as stub:
        call = stub.Infer()
        await call.write(a_run("silent"))
        await call.read()

        with pytest.raises(ArgosyError) as caught:
            await infer(stub, a_run("instant"))
        with pytest.raises(ArgosyError):
            await stub.Embed(an_embed_request())

        call.cancel()
        await until(lambda: worker.observer.finished)
        await infer(stub, a_run("instant"))
    assert caught.value.kind is Kind.UNAVAILABLE
    assert worker.rejected == 2


async def test_many_plans_run_at_once(worker: ServedWorker):
    async with worker.serve() as stub:
        runs = await asyncio.gather(*(infer(stub, a_run("instant")) for _ in range(10)))

    assert all(
        responses[-1].finished.attempts[0].outcome == inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED for responses in runs
    )
