"""The cost of a request."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from orchestrator.chat.finalize import capped_cost
from orchestrator.usage.model import AttemptUsage
from values.money import NanoUsd, Price, cost
from values.usage import TokenUsage, UsageSource, total_usage

tokens = st.integers(0, 10**10)
prices = st.builds(
    Price, st.just("a/b"), st.just("prc_1"), st.integers(0, 10**12).map(NanoUsd), st.integers(0, 10**12).map(NanoUsd)
)
usages = st.builds(TokenUsage, st.sampled_from(UsageSource), st.none() | tokens, st.none() | tokens)
attempts = st.builds(AttemptUsage, st.just(1), prices, usages)
UNLIMITED = NanoUsd(10**40)


@given(tokens, tokens, prices)
def test_an_attempt_costs_its_tokens_times_their_price_rounded_up_once(
    input_tokens: int, output_tokens: int, price: Price
) -> None:
    exact = Fraction(input_tokens * price.input_per_million, 10**6)
    exact += Fraction(output_tokens * price.output_per_million, 10**6)

    assert cost(input_tokens, output_tokens, price) == ceil(exact)


@given(st.lists(attempts, max_size=5))
def test_a_cost_is_the_sum_over_attempts_of_known_usage(used: list[AttemptUsage]) -> None:
    known = [
        cost(usage.input_tokens, usage.output_tokens, price)
        for _, price, usage in used
        if usage.source is not UsageSource.UNKNOWN
        and usage.input_tokens is not None
        and usage.output_tokens is not None
    ]

    assert capped_cost(used, UNLIMITED) == sum(known)


@given(st.lists(attempts, max_size=5), st.integers(0, 10**14).map(NanoUsd))
def test_a_cost_is_never_above_what_was_held(used: list[AttemptUsage], held: NanoUsd) -> None:
    assert 0 <= capped_cost(used, held) <= held


@given(st.lists(usages, max_size=5))
def test_a_sum_is_as_certain_as_its_least_certain_part(parts: list[TokenUsage]) -> None:
    complete = all(part.input_tokens is not None and part.output_tokens is not None for part in parts)
    sources = {part.source for part in parts}

    total = total_usage(parts)

    assert total.input_tokens == sum(part.input_tokens or 0 for part in parts)
    assert total.output_tokens == sum(part.output_tokens or 0 for part in parts)
    if not complete or UsageSource.UNKNOWN in sources:
        assert total.source is UsageSource.UNKNOWN
    elif UsageSource.COUNTED in sources:
        assert total.source is UsageSource.COUNTED
    else:
        assert total.source is UsageSource.REPORTED


def test_an_explicit_price_of_zero_is_a_price() -> None:
    assert cost(10**6, 10**6, Price("minilm/m", "prc_1", NanoUsd(0), NanoUsd(0))) == 0
