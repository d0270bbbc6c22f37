"""The guard on answers of near prompts: what differs keeps them apart, another form does not."""

from __future__ import annotations

import pytest
from orchestrator.response_cache.guard import MAX_PROMPT_CHARACTERS, Difference, difference

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
