"""Each token is of one class, each class has its price, and no bill is above its bound."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values.money import (
    MAX_NANO_USD,
    MAX_PRICE,
    MAX_TOKENS,
    ClassPrices,
    NanoUsd,
    Price,
    class_costs,
    cost,
    discount,
    max_cost,
)
from values.usage import (
    AbsentClasses,
    TokenClass,
    TokenDetails,
    TokenUsage,
    UsageSource,
    total_usage,
)

tokens = st.integers(0, MAX_TOKENS)
amounts = st.integers(0, MAX_PRICE).map(NanoUsd)
class_prices = st.none() | st.builds(ClassPrices, *(st.none() | amounts for _ in ClassPrices._fields))
prices = st.builds(Price, st.just("a/b"), st.just("prc_1"), amounts, amounts, class_prices)
details = st.builds(TokenDetails, *(tokens for _ in TokenDetails._fields))
usages = st.builds(
    lambda read, written, found: TokenUsage(UsageSource.REPORTED, read, written, found.within(read, written)),
    tokens,
    tokens,
    details,
)
absences = st.builds(AbsentClasses, st.booleans(), st.booleans(), st.booleans())


def amount_of(usage: TokenUsage, price: Price) -> int:
    assert usage.known is not None
    return cost(*usage.known, price, usage.details)


def without(usage: TokenUsage, absent: AbsentClasses) -> TokenUsage:
    """Take the tokens of absent classes as text."""
    assert usage.known is not None
    found = usage.details or TokenDetails()
    if absent.cache_writes:
        found = found._replace(cache_write=0, cache_write_1h=0)
    if absent.audio_input:
        found = found._replace(audio_input=0)
    if absent.audio_output:
        found = found._replace(audio_output=0)
    return usage._replace(details=found.within(*usage.known))


@given(tokens, tokens, details)
def test_classes_are_disjoint_and_fit_into_the_counts(read: int, written: int, found: TokenDetails) -> None:
    within = found.within(read, written)

    assert within is None or any(within)
    kept = within or TokenDetails()
    assert all(0 <= now <= before for now, before in zip(kept, found, strict=True))
    assert sum(kept[:5]) == min(read, sum(found[:5]))
    assert sum(kept[5:]) == min(written, sum(found[5:]))
    assert kept.within(read, written) == within


@given(usages, prices)
def test_a_cost_is_the_exact_sum_over_classes_rounded_up_once(usage: TokenUsage, price: Price) -> None:
    assert usage.known is not None
    shares = class_costs(usage, price, NanoUsd(MAX_NANO_USD))
    by_class = {TokenClass.TEXT_INPUT: price.input_per_million, TokenClass.TEXT_OUTPUT: price.output_per_million}
    by_class |= dict(zip(map(TokenClass, TokenDetails._fields), price.per_class, strict=True))
    exact = Fraction(sum(one.tokens * by_class[one.token_class] for one in shares), 1_000_000)

    assert 0 <= amount_of(usage, price) - exact < 1
    assert amount_of(usage, price) <= MAX_NANO_USD
    assert sum(one.tokens for one in shares) == sum(usage.known)


@given(usages, prices, st.integers(0, MAX_NANO_USD))
def test_shares_add_up_to_what_was_paid(usage: TokenUsage, price: Price, at_most: int) -> None:
    paid = NanoUsd(min(amount_of(usage, price), at_most))
    shares = class_costs(usage, price, paid)

    assert sum(one.cost for one in shares) == paid
    assert all(one.tokens > 0 and one.cost >= 0 for one in shares)


@given(tokens, tokens, prices, st.integers(0, MAX_NANO_USD))
def test_a_call_without_details_is_shared_as_one_whose_details_are_zero(
    read: int, written: int, price: Price, paid: int
) -> None:
    text = TokenUsage(UsageSource.REPORTED, read, written)

    zeros = class_costs(text._replace(details=TokenDetails()), price, NanoUsd(paid))

    assert class_costs(text, price, NanoUsd(paid)) == zeros


@given(usages, prices, absences, st.integers(0, 100))
def test_no_usage_within_a_bound_costs_more_than_the_bound(
    usage: TokenUsage, price: Price, absent: AbsentClasses, percent: int
) -> None:
    assert usage.known is not None
    price = discount(price, percent)
    used = without(usage, absent)

    bound = max_cost(*usage.known, price, absent)
    assert amount_of(used, price) <= bound <= max_cost(*usage.known, price) <= MAX_NANO_USD


@given(usages, tokens, tokens, prices)
def test_usage_above_a_bound_is_cut_to_it_in_all_classes(
    usage: TokenUsage, read: int, written: int, price: Price
) -> None:
    cut = usage.clamped(read, written)

    assert cut.known is not None
    assert usage.known is not None
    assert cut.known == (min(usage.known[0], read), min(usage.known[1], written))
    assert (cut.details or TokenDetails()).within(*cut.known) == cut.details
    assert amount_of(cut, price) <= max_cost(read, written, price)
    assert (cut is usage) == (usage.known[0] <= read and usage.known[1] <= written)


@given(usages, prices, st.integers(1, 100))
def test_a_discount_is_taken_off_every_class(usage: TokenUsage, price: Price, percent: int) -> None:
    less = discount(price, percent)

    assert amount_of(usage, less) <= amount_of(usage, price)
    pairs = zip(less.per_class, price.per_class, strict=True)
    assert all(0 <= 100 * now - (100 - percent) * full < 100 for now, full in pairs)


def test_a_class_without_a_price_falls_back() -> None:
    read, written, write = NanoUsd(3), NanoUsd(5), NanoUsd(4)

    assert Price("a/b", "v", read, written).per_class == (3, 3, 3, 3, 3, 5, 5)
    # An hour falls back to the other writes.
    assert Price("a/b", "v", read, written, ClassPrices(cache_write=write)).per_class == (3, 4, 4, 3, 3, 5, 5)
    # Zero is a price.
    assert Price("a/b", "v", read, written, ClassPrices(cached_input=NanoUsd(0))).per_class == (0, 3, 3, 3, 3, 5, 5)


def test_nothing_is_held_for_classes_that_cannot_occur() -> None:
    own = ClassPrices(NanoUsd(1), NanoUsd(40), NanoUsd(60), NanoUsd(80), None, None, NanoUsd(90))
    price = Price("a/b", "v", NanoUsd(10), NanoUsd(20), own)

    def held(*absent: bool) -> tuple[int, int]:
        return (
            max_cost(1_000_000, 0, price, AbsentClasses(*absent)),
            max_cost(0, 1_000_000, price, AbsentClasses(*absent)),
        )

    assert held() == (80, 90)
    assert held(False, True) == (60, 90)
    assert held(True, True, True) == (10, 20)


@pytest.mark.parametrize("unknown", [TokenUsage(UsageSource.UNKNOWN), TokenUsage(UsageSource.REPORTED, 5)])
def test_what_is_not_known_has_no_shares(unknown: TokenUsage) -> None:
    assert class_costs(unknown, Price("a/b", "v", NanoUsd(1), NanoUsd(1)), NanoUsd(0)) == ()


def test_what_a_cache_did_can_be_taken_as_text() -> None:
    usage = TokenUsage(UsageSource.REPORTED, 50, 9, TokenDetails(4, 5, 6, audio_input=7, reasoning_output=8))

    assert usage.without_cache() == usage._replace(details=TokenDetails(audio_input=7, reasoning_output=8))
    assert usage._replace(details=TokenDetails(4)).without_cache().details is None
    plain = usage._replace(details=TokenDetails(audio_input=7))
    assert plain.without_cache() is plain


def test_a_total_has_the_classes_of_all_calls() -> None:
    calls = [
        TokenUsage(UsageSource.REPORTED, 10, 5, TokenDetails(cached_input=4)),
        TokenUsage(UsageSource.REPORTED, 10, 5),
        TokenUsage(UsageSource.COUNTED, 10, 5, TokenDetails(cached_input=1, reasoning_output=2)),
    ]
    assert total_usage(calls) == TokenUsage(
        UsageSource.COUNTED, 30, 15, TokenDetails(cached_input=5, reasoning_output=2)
    )
    assert total_usage(calls[1:2]).details is None
