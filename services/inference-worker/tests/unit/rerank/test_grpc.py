"""Scores over the wire."""

import pytest
from argosy.inference.v1 import inference_pb2
from chassis.errors import ArgosyError, InvalidRequest, Kind
from inference_worker.rerank.grpc import proto_to_rerank_request
from served_worker import ServedWorker, a_rerank_request


@pytest.fixture
def worker() -> ServedWorker:
    return ServedWorker()


async def test_documents_are_scored_over_the_wire(worker: ServedWorker):
    async with worker.serve() as stub:
        response = await stub.Rerank(a_rerank_request())

    assert list(response.scores) == [0.0, 1.0]
    (attempt,) = response.attempts
    assert (attempt.outcome, attempt.usage.input_tokens) == (inference_pb2.ATTEMPT_OUTCOME_SUCCEEDED, 7)


@pytest.mark.parametrize(
    ("model", "retry_same", "fallback"), [("500", False, True), ("cut-before", True, True), ("400", False, False)]
)
async def test_a_failed_call_says_what_may_help(worker: ServedWorker, model: str, retry_same: bool, fallback: bool):
    async with worker.serve() as stub:
        response = await stub.Rerank(a_rerank_request(model))

    assert not response.scores
    assert response.error.reason
    assert (response.retry_same, response.fallback) == (retry_same, fallback)
    assert response.attempts[0].outcome == inference_pb2.ATTEMPT_OUTCOME_REJECTED


async def test_usage_that_is_not_reported_is_unknown_because_what_was_read_is(worker: ServedWorker):
    async with worker.serve() as stub:
        response = await stub.Rerank(a_rerank_request("no-usage"))

    assert len(response.scores) == 2
    assert not response.attempts[0].usage.HasField("input_tokens")


async def test_an_upstream_without_scores_is_a_failed_call(worker: ServedWorker):
    request = a_rerank_request()
    request.candidates[0].upstream = "nowhere"
    async with worker.serve() as stub:
        response = await stub.Rerank(request)

    assert (response.error.kind, response.error.reason) == (Kind.UPSTREAM, "UPSTREAM_FAILED")


async def test_the_worker_takes_no_more_calls_than_it_may(worker: ServedWorker):
    full = ServedWorker(max_in_flight=0)
    async with full.serve() as stub:
        with pytest.raises(ArgosyError) as caught:
            await stub.Rerank(a_rerank_request())

    assert (caught.value.kind, full.rejected, full.reranker.scored) == (Kind.UNAVAILABLE, 1, [])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (inference_pb2.RerankRequest(documents=["a"]), "query"),
        (inference_pb2.RerankRequest(query="a"), "documents"),
        (inference_pb2.RerankRequest(query="a", documents=["a", ""]), "documents"),
        (inference_pb2.RerankRequest(query="a", documents=["a"] * 1001), "documents"),
        (inference_pb2.RerankRequest(query="a", documents=["a"]), "candidates"),
        (
            inference_pb2.RerankRequest(
                query="a", documents=["a"], candidates=[inference_pb2.Candidate(upstream="fake", model="m")] * 2
            ),
            "candidates",
        ),
    ],
)
def test_an_invalid_request_is_refused(message: inference_pb2.RerankRequest, param: str):
    with pytest.raises(InvalidRequest) as caught:
        proto_to_rerank_request(message)

    assert caught.value.param == param
