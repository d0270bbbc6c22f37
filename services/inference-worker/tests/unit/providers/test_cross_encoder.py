"""Cross-encoders in this process, by a real model whose score is the words in common."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from argosy_dev.parts.models.minilm import Graph
from chassis.testing import FakeClock
from inference_worker.providers import cross_encoder as provider
from inference_worker.providers.cross_encoder import CrossEncoder, CrossEncoderConfig
from inference_worker.providers.model import ContextLengthExceeded, UpstreamProtocolError, UpstreamRateLimited
from inference_worker.providers.scores import to_score
from onnx import TensorProto, helper
from values.reranking import max_rerank_tokens
from values.usage import TokenUsage, UsageSource

from tests.simulators.cross_encoders import INPUTS, write_bert, write_model, write_overlap

QUERY = "a ship on the sea"
DOCUMENTS = ["invoice is due", "a ship sails over the sea", "the invoice"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_overlap(tmp_path_factory.mktemp("overlap"))


@pytest.fixture
async def model(folder: Path) -> AsyncIterator[CrossEncoder]:
    async with CrossEncoder(folder, 1, 128) as loaded:
        yield loaded


async def test_scores_are_in_the_order_of_the_documents_and_from_0_to_1(model: CrossEncoder):
    scores = (await model.rerank("m", QUERY, DOCUMENTS)).scores

    # Words in common: none, four, one; less the three of the model.
    assert scores == pytest.approx([to_score(-3), to_score(1), to_score(-2)])


async def test_usage_is_the_tokens_that_the_model_read_with_the_query_once_per_document(model: CrossEncoder):
    one = await model.rerank("m", QUERY, ["invoice"])
    three = await model.rerank("m", QUERY, DOCUMENTS)

    # Five words of the query, those of the document, and three marks.
    assert one.usage == TokenUsage(UsageSource.REPORTED, 5 + 1 + 3, 0)
    assert three.usage == TokenUsage(UsageSource.REPORTED, 3 * (5 + 3) + 3 + 6 + 2, 0)


async def test_a_pair_has_the_same_score_alone_and_in_a_batch(model: CrossEncoder):
    documents = [*DOCUMENTS, "the sea " * 100, "ship"] * 20

    together = (await model.rerank("m", QUERY, documents)).scores
    alone = [(await model.rerank("m", QUERY, [document])).scores[0] for document in documents[:5]]

    assert together == pytest.approx(alone * 20)


async def test_the_end_of_a_long_document_counts_and_it_has_the_score_of_its_best_window(model: CrossEncoder):
    filler = "invoice " * 500

    begins, ends, nowhere = (
        await model.rerank("m", QUERY, [f"ship sea {filler}", f"{filler} ship sea", filler])
    ).scores

    assert begins == ends == pytest.approx(to_score(-1))
    assert nowhere == pytest.approx(to_score(-3))


async def test_more_is_reserved_than_windows_of_a_long_document_use(folder: Path):
    query, documents = "sea " * 64, ["ship " * 1000, "sea"]
    async with CrossEncoder(folder, 1, 128) as model:
        usage = (await model.rerank("m", query, documents)).usage

    assert usage is not None
    assert usage.input_tokens is not None
    assert 2_000 < usage.input_tokens < max_rerank_tokens(query, documents)


async def test_a_query_of_more_than_half_of_what_the_model_reads_is_refused(model: CrossEncoder):
    await model.rerank("m", "ship " * 64, ["sea"])

    for query in ("ship " * 65, "ship" * 100_000):
        with pytest.raises(ContextLengthExceeded, match="more than the 64 tokens") as caught:
            await model.rerank("m", query, ["sea"])
        assert (caught.value.param, caught.value.maybe_billed) == ("query", False)


async def test_a_document_of_too_many_windows_is_refused_and_never_cut(model: CrossEncoder):
    for document in ("ship " * 10_000, "ship" * 100_000):
        with pytest.raises(ContextLengthExceeded, match="Split it") as caught:
            await model.rerank("m", "sea", ["ship", document])
        assert (caught.value.param, caught.value.maybe_billed) == ("documents[1]", False)


async def test_too_many_queued_documents_are_rejected(model: CrossEncoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provider, "MAX_QUEUED_DOCUMENTS", 3)

    with pytest.raises(UpstreamRateLimited):
        await model.rerank("m", QUERY, ["ship"] * 4)

    assert len((await model.rerank("m", QUERY, ["ship"] * 3)).scores) == 3


async def test_a_short_call_does_not_wait_for_the_end_of_a_long_one(model: CrossEncoder):
    long = asyncio.create_task(model.rerank("m", QUERY, ["the sea " * 1000] * 1000))
    await asyncio.sleep(0)

    await model.rerank("m", QUERY, ["ship"])

    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.onnx"])
async def test_a_folder_that_is_not_whole_keeps_the_worker_from_starting(folder: Path, tmp_path: Path, missing: str):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / missing).unlink()
    config = CrossEncoderConfig(kind="onnx_reranker", path=tmp_path)

    async with AsyncExitStack() as stack:
        with pytest.raises(FileNotFoundError, match=missing):
            await config.open(FakeClock(), stack)


@pytest.mark.parametrize(("inputs", "labels"), [((*INPUTS, "pixels"), 1), (INPUTS[1:], 1), (INPUTS, 2)])
async def test_a_model_that_is_no_cross_encoder_keeps_the_worker_from_starting(
    tmp_path: Path, inputs: tuple[str, ...], labels: int
):
    graph = Graph()
    values = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    graph.nodes.append(
        helper.make_node("ReduceSum", [values, graph.integers(1)], ["logits"], keepdims=1)
        if labels == 1
        else helper.make_node("Slice", [values, *(graph.integers(one) for one in (0, 2, 1))], ["logits"])
    )
    write_model(tmp_path, graph, inputs=inputs, labels=labels)

    with pytest.raises(ValueError, match="no cross-encoder"):
        async with CrossEncoder(tmp_path, 1, 128):
            pass


async def test_a_model_without_token_types_is_given_none(tmp_path: Path):
    graph = Graph()
    values = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    graph.nodes.append(helper.make_node("ReduceSum", [values, graph.integers(1)], ["logits"], keepdims=1))
    write_model(tmp_path, graph, inputs=("input_ids", "attention_mask"))

    async with CrossEncoder(tmp_path, 1, 128) as model:
        short, long = (await model.rerank("m", "sea", ["ship", "a ship"])).scores

    assert (short, long) == pytest.approx((to_score(5), to_score(6)))


@pytest.mark.parametrize("places", [64, 512])
async def test_a_model_that_cannot_read_so_many_tokens_keeps_the_worker_from_starting(tmp_path: Path, places: int):
    write_bert(tmp_path, layers=1, width=8, heads=2, vocabulary=20, places=places)

    with pytest.raises(ValueError, match="does not score 513 tokens at once"):
        async with CrossEncoder(tmp_path, 1, 513):
            pass
    async with CrossEncoder(tmp_path, 1, places) as model:
        assert len((await model.rerank("m", "sea", ["a ship", "the sea " * 1000])).scores) == 2


async def test_a_model_that_gives_no_number_is_a_failed_call_and_at_the_start_an_error(tmp_path: Path):
    graph = Graph()
    values = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    summed = graph.add("ReduceSum", values, graph.integers(1), keepdims=1)
    limit = graph.weight("limit", np.array(100, np.float32))
    # Of a negative number it has none: texts of less than 100 tokens.
    graph.nodes.append(helper.make_node("Sqrt", [graph.add("Sub", summed, limit)], ["logits"]))
    write_model(tmp_path, graph, inputs=("input_ids", "attention_mask"))

    async with CrossEncoder(tmp_path, 1, 128) as model:
        with pytest.raises(UpstreamProtocolError):
            await model.rerank("m", "sea", ["ship"])
    with pytest.raises(ValueError, match="no number for each pair"):
        async with CrossEncoder(tmp_path, 1, 99):
            pass


def test_scores_keep_the_order_of_very_large_numbers():
    assert to_score(-1000.0) == 0.0
    assert to_score(-20.0) < to_score(-19.0) < 0.5 < to_score(19.0) < to_score(20.0) <= to_score(1000.0) == 1.0
