"""The guard on answers of near prompts: what differs keeps them apart, another form does not."""

from __future__ import annotations

from time import process_time

import pytest
from orchestrator.response_cache.guard import MAX_PROMPT_CHARACTERS, Difference, difference

from services.orchestrator.tests.independent_prompts import INDEPENDENT_NEAR_MISSES, INDEPENDENT_PARAPHRASES
from services.orchestrator.tests.near_prompts import FURTHER_NEAR_MISSES, NEAR_MISSES, PARAPHRASES, WRITTEN_OTHERWISE

PAIRS = [(kind, one, other) for kind, pairs in NEAR_MISSES.items() for one, other in pairs]


@pytest.mark.parametrize(("kind", "one", "other"), PAIRS)
def test_prompts_that_ask_for_something_else_are_kept_apart(kind: Difference, one: str, other: str) -> None:
    assert difference(one, other) is kind
    assert difference(other, one) is kind


@pytest.mark.parametrize(("one", "other"), FURTHER_NEAR_MISSES)
def test_further_near_misses_are_kept_apart(one: str, other: str) -> None:
    assert difference(one, other) is not None
    assert difference(other, one) is not None


@pytest.mark.parametrize(("one", "other"), WRITTEN_OTHERWISE)
def test_prompts_that_are_written_otherwise_are_kept_apart(one: str, other: str) -> None:
    assert difference(one, other) is not None
    assert difference(other, one) is not None


@pytest.mark.parametrize(("name", "least"), [("first", 120), ("by_reading", 50), ("second", 60), ("third", 60)])
def test_near_misses_of_another_author_are_kept_apart_in_both_directions(name: str, least: int) -> None:
    pairs = INDEPENDENT_NEAR_MISSES[name]
    assert len(pairs) >= least
    both = [*((one, other) for _, one, other in pairs), *((other, one) for _, one, other in pairs)]
    assert [pair for pair in both if difference(*pair) is None] == []


def test_half_of_the_paraphrases_of_another_author_have_no_difference() -> None:
    assert len(INDEPENDENT_PARAPHRASES) >= 80
    found = [pair for pair in INDEPENDENT_PARAPHRASES if difference(*pair) is None]
    assert len(found) >= len(INDEPENDENT_PARAPHRASES) / 2


@pytest.mark.parametrize("mark", [" and ", ", ", "!", "'s ", "'", "twenty ", "1,", "hi ", "thanks ", "( ", "how do "])
def test_the_time_to_read_a_prompt_is_bounded(mark: str) -> None:
    one = ("how do " + mark * MAX_PROMPT_CHARACTERS)[: MAX_PROMPT_CHARACTERS - 1]
    before = process_time()
    difference(f"{one}a", f"{one}b")
    assert process_time() - before < 1


@pytest.mark.parametrize("marks", [f".{' ' * 1_000}", "!" * 1_000])
def test_the_time_to_read_how_a_prompt_is_written_is_bounded(marks: str) -> None:
    one = f"{marks}a{' B' * 480}"
    before = process_time()
    assert difference(one, f"{one} ") is None
    assert process_time() - before < 1


@pytest.mark.parametrize("prompt", sorted({prompt for pair in PARAPHRASES for prompt in pair}))
def test_a_prompt_does_not_differ_from_itself(prompt: str) -> None:
    assert difference(prompt, f" {prompt}\n") is None


def test_the_table_has_sixty_near_misses_of_all_kinds_and_sixty_paraphrases() -> None:
    assert len(PAIRS) >= 60
    assert len(PARAPHRASES) >= 60
    assert set(NEAR_MISSES) == set(Difference) - {Difference.LENGTH}


def test_half_of_the_paraphrases_have_no_difference() -> None:
    found = [pair for pair in PARAPHRASES if difference(*pair) is None]
    assert len(found) >= len(PARAPHRASES) / 2


def test_a_long_prompt_is_only_equal_to_itself() -> None:
    long = "word " * (MAX_PROMPT_CHARACTERS // 5 + 1)
    assert difference(long, f"{long} ") is Difference.LENGTH
    assert difference(long, long) is None


def test_a_prompt_is_as_long_as_it_is_read() -> None:
    ligatures = "\ufdfa" * (MAX_PROMPT_CHARACTERS // 18)
    assert difference(ligatures, f"{ligatures} ") is None
    assert difference(f"{ligatures}\ufdfa", f"{ligatures}\ufdfa ") is Difference.LENGTH
