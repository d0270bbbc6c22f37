"""Rerankers of providers, against their doubles."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.providers.credentials import ALL_TENANTS, Credential
from inference_worker.providers.model import (
    ContextLengthExceeded,
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from inference_worker.providers.openai.config import OpenaiConfig
from inference_worker.providers.ports import Reranker
from inference_worker.providers.rerankers.config import CohereConfig, JinaConfig, TeiConfig, VoyageConfig
from raw_http_server import RawHttpServer
from values.usage import TokenUsage, UsageSource

from tests.simulators.upstream import UpstreamSimulator

KINDS: dict[str, tuple[type[Any], str]] = {
    "cohere": (CohereConfig, "/v2"),
    "jina": (JinaConfig, "/v1"),
    "voyage": (VoyageConfig, "/v1"),
    "tei": (TeiConfig, ""),
    "openai": (OpenaiConfig, "/v1"),
}
QUERY = "a ship at sea"
DOCUMENTS = ["no", "a ship sails the sea", "ship"]
KEY = "sk-of-the-tests-000"


async def opened(stack: AsyncExitStack, kind: str, url: str, **fields: Any) -> Reranker:
    config, path = KINDS[kind]
    upstream = await config(kind=kind, base_url=url + path, api_key=KEY, **fields).open(FakeClock(), stack)
    reranker = upstream.reranker
    assert reranker is not None
    return reranker  # type: ignore[no-any-return]


class Answers(RawHttpServer):
    """Sends one response after another, and the last again."""

    def __init__(self, *responses: bytes) -> None:
        self._responses = responses
        super().__init__()

    async def url(self, stack: AsyncExitStack) -> str:
        server = await stack.enter_async_context(await asyncio.start_server(self.handle, "127.0.0.1", 0))
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pieces = self._responses[:1]
        self._responses = self._responses[1:] or self._responses
        await super().handle(reader, writer)


def response_of(status: int, body: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}", "connection: close", *headers]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def model_of(kind: str, options: str = "") -> str:
    return f"as-{'vllm' if kind == 'openai' else kind}{options}"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_scores_documents_in_their_order_and_tells_what_it_cost(
    kind: str, simulator: UpstreamSimulator
):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, kind, simulator.url)
        scores = await reranker.rerank(model_of(kind), QUERY, DOCUMENTS)

    assert scores.scores == (0.0, 0.75, 0.25)
    assert scores.unscored == 0
    (charged,) = simulator.journal
    if kind == "cohere":
        assert (scores.usage, scores.search_units, charged.search_units) == (None, 1, 1)
    else:
        assert scores.usage == TokenUsage(UsageSource.REPORTED, charged.input_tokens, 0)
        assert (charged.input_tokens, scores.search_units) == (19, None)
    assert simulator.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_each_is_asked_with_the_fields_that_it_knows(simulator: UpstreamSimulator):
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            await (await opened(stack, kind, simulator.url)).rerank(model_of(kind), "q", ["a", "b"])
    common = {"query": "q", "documents": ["a", "b"]}

    assert [one.body for one in simulator.requests] == [
        {**common, "model": "as-cohere", "top_n": 2, "max_tokens_per_doc": 4096},
        {**common, "model": "as-jina", "top_n": 2, "return_documents": False},
        {**common, "model": "as-voyage", "top_k": 2, "return_documents": False, "truncation": False},
        {"query": "q", "texts": ["a", "b"], "raw_scores": False, "return_text": False, "truncate": False},
        {**common, "model": "as-vllm", "top_n": 2},
    ]


async def test_cohere_is_told_not_to_cut_a_long_document(simulator: UpstreamSimulator):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "cohere", simulator.url)
        scores = await reranker.rerank("m", "needle", ["hay " * 5_000 + "needle", "needle"])

    assert scores.scores == (1.0, 1.0)
    assert scores.search_units == 1
    assert simulator.requests[0].body["max_tokens_per_doc"] == 20_006


async def test_a_server_that_takes_few_documents_gets_them_in_turn(simulator: UpstreamSimulator):
    documents = [f"ship {number}" for number in range(70)]
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "tei", simulator.url)
        scores = await reranker.rerank("m", "ship 69", documents)

    assert [len(one.body["texts"]) for one in simulator.requests] == [32, 32, 6]
    assert scores.scores[68:] == (0.5, 1.0)
    assert scores.usage == TokenUsage(UsageSource.REPORTED, 280, 0)


async def test_the_calls_before_a_failed_one_are_paid_for():
    answer = response_of(200, '[{"index": 0, "score": 0.5}]', "x-compute-tokens: 5")
    async with AsyncExitStack() as stack:
        url = await Answers(answer, response_of(429, "{}")).url(stack)
        reranker = await opened(stack, "tei", url, max_documents_per_call=1)
        with pytest.raises(UpstreamRateLimited) as caught:
            await reranker.rerank("m", "q", ["a", "b"])

    assert caught.value.usage == TokenUsage(UsageSource.REPORTED, 5, 0)
    assert caught.value.maybe_billed


async def test_a_credential_of_the_tenant_replaces_that_of_the_settings(simulator: UpstreamSimulator):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "voyage", simulator.url)
        own = Credential("own", ALL_TENANTS, "sk-of-a-tenant-1")
        await reranker.rerank("as-voyage", "q", ["a"], credential=own)

    assert simulator.requests[0].headers["authorization"] == "Bearer sk-of-a-tenant-1"


@pytest.mark.parametrize("kind", ["cohere", "jina", "voyage", "openai"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamRejected),
        (401, UpstreamAccountUnavailable),
        (402, UpstreamAccountUnavailable),
        (422, UpstreamRejected),
        (429, UpstreamRateLimited),
        (500, UpstreamFailed),
        (503, UpstreamOverloaded),
    ],
)
async def test_a_refusal_is_what_its_status_says(
    kind: str, status: int, error: type[UpstreamFailed], simulator: UpstreamSimulator
):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, kind, simulator.url)
        with pytest.raises(UpstreamFailed) as caught:
            await reranker.rerank(model_of(kind, f"?status={status}"), "q", ["a"])

    assert type(caught.value) is error
    assert not caught.value.maybe_billed
    assert caught.value.usage is None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, '{"error": "Model is overloaded", "error_type": "Overloaded"}', UpstreamOverloaded),
        (424, '{"error": "backend error", "error_type": "Backend"}', UpstreamFailed),
        (503, '{"error": "unhealthy", "error_type": "Unhealthy"}', UpstreamOverloaded),
        (
            413,
            (
                '{"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 534", '
                '"error_type": "Validation"}'
            ),
            ContextLengthExceeded,
        ),
        (
            413,
            '{"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}',
            UpstreamRejected,
        ),
        (
            500,
            (
                '{"error": {"code": 500, "message": "input (2793 tokens) is too large to process. increase '
                'the physical batch size (current batch size: 2048)", "type": "server_error"}}'
            ),
            ContextLengthExceeded,
        ),
        (
            400,
            (
                '{"error": {"message": "This model\'s maximum context length is 512 tokens. However, you requested '
                '513.", "type": "BadRequestError", "param": "input_tokens", "code": 400}}'
            ),
            ContextLengthExceeded,
        ),
        (
            400,
            (
                '{"detail": "The example at index 0 in your batch has too many tokens and does not fit into the '
                "model's context window of 4000 tokens.\"}"
            ),
            ContextLengthExceeded,
        ),
    ],
)
async def test_what_servers_say_of_a_refusal_is_understood(status: int, body: str, error: type[UpstreamFailed]):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "tei", await Answers(response_of(status, body)).url(stack))
        with pytest.raises(UpstreamFailed) as caught:
            await reranker.rerank("m", "q", ["a"])

    assert type(caught.value) is error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "error"), [("garbage", UpstreamProtocolError), ("cut-before", UpstreamFailed)])
async def test_a_spoilt_response_is_a_failure_that_another_candidate_may_mend(
    kind: str, mode: str, error: type[UpstreamFailed], simulator: UpstreamSimulator
):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, kind, simulator.url, headers={"x-simulator-mode": mode})
        with pytest.raises(error) as caught:
            await reranker.rerank(mode, "q", ["a"])

    assert caught.value.fallback


async def test_an_answer_that_breaks_off_may_be_billed():
    half = b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"results": [{"index": 0,'
    async with AsyncExitStack() as stack:
        server = Answers(half)
        server.then = lambda writer: writer.close()
        reranker = await opened(stack, "jina", await server.url(stack))
        with pytest.raises(UpstreamInterrupted) as caught:
            await reranker.rerank("m", "q", ["a"])

    assert caught.value.maybe_billed


async def test_an_answer_of_any_size_is_not_read(simulator: UpstreamSimulator):
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "openai", simulator.url, max_response_bytes=1_024)
        with pytest.raises(UpstreamProtocolError, match="too large"):
            await reranker.rerank("as-vllm", "q", ["a " * 2_000])


async def test_an_error_with_status_200_is_that_error_and_keeps_what_it_cost():
    body = '{"error": {"message": "boom", "code": 503}, "usage": {"total_tokens": 4}}'
    async with AsyncExitStack() as stack:
        reranker = await opened(stack, "jina", await Answers(response_of(200, body)).url(stack))
        with pytest.raises(UpstreamOverloaded) as caught:
            await reranker.rerank("m", "q", ["a"])

    assert caught.value.usage == TokenUsage(UsageSource.REPORTED, 4, 0)
    assert caught.value.maybe_billed


@pytest.mark.parametrize("kind", ["cohere", "jina", "voyage", "openai"])
async def test_odd_answers_are_used_as_far_as_they_are_certain(kind: str, simulator: UpstreamSimulator):
    async with AsyncExitStack() as stack:
        reranker = await opened(
            stack, kind, simulator.url, headers={"x-simulator-mode": model_of(kind, "?odd=missing")}
        )
        missing = await reranker.rerank("m", QUERY, DOCUMENTS)
        reranker = await opened(
            stack, kind, simulator.url, headers={"x-simulator-mode": model_of(kind, "?odd=repeated")}
        )
        repeated = await reranker.rerank("m", QUERY, DOCUMENTS)
        reranker = await opened(
            stack, kind, simulator.url, headers={"x-simulator-mode": model_of(kind, "?odd=no-usage")}
        )
        unknown = await reranker.rerank("m", QUERY, DOCUMENTS)
        reranker = await opened(
            stack, kind, simulator.url, headers={"x-simulator-mode": model_of(kind, "?odd=from-one")}
        )
        with pytest.raises(UpstreamProtocolError) as caught:
            await reranker.rerank("m", QUERY, DOCUMENTS)

    assert (missing.scores, missing.unscored) == ((0.0, 0.75, 0.25), 1)
    assert (repeated.scores, repeated.unscored) == ((0.0, 0.75, 0.25), 0)
    assert (unknown.usage, unknown.search_units) == (None, None)
    # The answer is of no use, and it was paid for.
    assert caught.value.search_units == 1 if kind == "cohere" else caught.value.usage is not None
