"""A bill is the formula, whatever was used."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from orchestrator.domain.finalize import cost_of
from orchestrator.domain.money import NanoUsd, Price
from orchestrator.domain.usage import TokenUsage, UsageSource, total

tokens = st.integers(0, 10**10)
prices = st.builds(
    Price, st.just("a/b"), st.just("prc_1"), st.integers(0, 10**12).map(NanoUsd), st.integers(0, 10**12).map(NanoUsd)
)
usages = st.builds(TokenUsage, st.sampled_from(UsageSource), st.none() | tokens, st.none() | tokens)
PLENTY = NanoUsd(10**40)


@given(tokens, tokens, prices)
def test_an_attempt_costs_its_tokens_times_their_price_rounded_up_once(read, written, price):
    exact = Fraction(read * price.input_per_million, 10**6) + Fraction(written * price.output_per_million, 10**6)

    assert price.cost(read, written) == ceil(exact)


@given(st.lists(st.tuples(usages, prices), max_size=5))
def test_a_bill_is_the_sum_over_attempts_whose_counts_are_known(used):
    known = [
        price.cost(usage.input_tokens, usage.output_tokens)
        for usage, price in used
        if usage.source is not UsageSource.UNKNOWN
        and usage.input_tokens is not None
        and usage.output_tokens is not None
    ]

    assert cost_of(used, PLENTY) == sum(known)


@given(st.lists(st.tuples(usages, prices), max_size=5), st.integers(0, 10**14).map(NanoUsd))
def test_a_bill_is_never_above_what_was_held(used, held):
    assert 0 <= cost_of(used, held) <= held


@given(st.lists(usages, max_size=5))
def test_a_sum_is_as_certain_as_its_least_certain_part(parts):
    complete = all(part.input_tokens is not None and part.output_tokens is not None for part in parts)
    sources = {part.source for part in parts}

    summed = total(parts)

    assert summed.input_tokens == sum(part.input_tokens or 0 for part in parts)
    assert summed.output_tokens == sum(part.output_tokens or 0 for part in parts)
    if not complete or UsageSource.UNKNOWN in sources:
        assert summed.source is UsageSource.UNKNOWN
    elif UsageSource.COUNTED in sources:
        assert summed.source is UsageSource.COUNTED
    else:
        assert summed.source is UsageSource.REPORTED


def test_an_explicit_price_of_zero_is_a_price():
    assert Price("minilm/m", "prc_1", NanoUsd(0), NanoUsd(0)).cost(10**6, 10**6) == 0
