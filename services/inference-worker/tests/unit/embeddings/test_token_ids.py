"""Token ids: passed through to providers that take them, and decoded for the others."""

from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.embeddings.token_ids import TokenBytes, decode_token_ids
from inference_worker.plans.model import AttemptOutcome, Candidate
from inference_worker.providers.model import UpstreamFailed
from inference_worker.token_counting.tiktoken import load_token_bytes
from values.embeddings import EmbeddingInput, max_embedding_tokens
from values.usage import NO_USAGE, TokenUsage, UsageSource
from worker_fakes import FakeEmbedder, FakeObserver, an_upstream

HELLO = (9906, 1917)
""""Hello" and " world" in `cl100k_base`."""
UNKNOWN = 100_256


async def run(embedder: FakeEmbedder, model: str, *inputs: EmbeddingInput, takes_token_ids: bool) -> EmbedResult:
    upstream = an_upstream(embedder=embedder, token_id_embedder=embedder if takes_token_ids else None)
    request = EmbedRequest(Candidate("fake", model), inputs, timedelta(seconds=60))
    return await EmbedRun(
        request,
        upstreams={"fake": upstream},
        clock=FakeClock(),
        observer=FakeObserver(),
        load_token_bytes=load_token_bytes,
    ).run()


async def test_they_pass_through_to_a_provider_that_takes_them():
    embedder = FakeEmbedder()

    result = await run(embedder, "instant", HELLO, (UNKNOWN,), takes_token_ids=True)

    assert embedder.inputs == [[HELLO, (UNKNOWN,)]]
    assert (len(result.vectors), result.error) == (2, None)


async def test_their_number_is_billed_when_the_provider_does_not_report_its_usage():
    result = await run(FakeEmbedder(), "no-usage", HELLO, (1,), takes_token_ids=True)

    assert result.attempt.usage == TokenUsage(UsageSource.COUNTED, 3, 0)


async def test_other_providers_get_their_texts_and_those_are_counted():
    embedder = FakeEmbedder()

    result = await run(embedder, "no-usage", HELLO, (9906,), takes_token_ids=False)

    assert embedder.inputs == [["Hello world", "Hello"]]
    assert result.attempt.usage == TokenUsage(UsageSource.COUNTED, 3, 0)


async def test_an_id_that_is_not_in_the_encoding_is_refused_before_the_call():
    embedder = FakeEmbedder()

    result = await run(embedder, "instant", HELLO, (UNKNOWN,), takes_token_ids=False)

    assert isinstance(result.error, InvalidRequest)
    assert (result.error.param, "input[1]" in result.error.message) == ("input", True)
    assert (result.attempt.outcome, result.attempt.usage) == (AttemptOutcome.REJECTED, NO_USAGE)
    assert embedder.inputs == []


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ((100_257,), "<|endoftext|>"),
        ((2**31 - 1,), None),
        ((0,), "!"),
    ],
)
async def test_each_id_has_one_text_or_none(ids: tuple[int, ...], text: str | None):
    if text is None:
        with pytest.raises(InvalidRequest):
            await decode_token_ids([ids], load_token_bytes)
    else:
        assert await decode_token_ids([ids], load_token_bytes) == [text]


async def test_half_a_character_becomes_a_replacement_character():
    def load(_: str) -> TokenBytes:
        return {1: b"a", 2: "\u20ac".encode()[:2]}.__getitem__

    assert await decode_token_ids([(1, 2)], load) == ["a\ufffd"]


async def test_more_text_than_was_reserved_is_refused_before_the_call():
    def load(_: str) -> TokenBytes:
        return {1: b" " * 128}.__getitem__

    assert await decode_token_ids([(1,)], load) == [" " * 128]
    with pytest.raises(InvalidRequest, match="Send it as text"):
        await decode_token_ids([(1, 1)], load)


@pytest.mark.parametrize("inputs", [[(1,)], [(1,) * 50, (2,)], [(1, 2, 3)] * 20])
async def test_no_text_that_is_sent_can_have_more_tokens_than_are_reserved(inputs: list[tuple[int, ...]]):
    """At most one token per byte is billed, and those around each input."""
    for width in range(1, 129):
        token_bytes = dict.fromkeys((1, 2, 3), b"x" * width)

        def load(_: str, token_bytes: dict[int, bytes] = token_bytes) -> TokenBytes:
            return token_bytes.__getitem__

        try:
            texts = await decode_token_ids(inputs, load)
        except InvalidRequest:
            continue
        assert sum(map(len, texts)) + 8 * len(texts) <= max_embedding_tokens(inputs)


async def test_without_the_encoding_the_next_candidate_may_answer():
    def load(_: str) -> TokenBytes:
        raise FileNotFoundError

    with pytest.raises(UpstreamFailed) as failed:
        await decode_token_ids([(1,)], load)
    assert failed.value.fallback
