"""Costs are exact, and so are the amounts people read."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values.money import MAX_NANO_USD, MAX_PRICE, MAX_TOKENS, NanoUsd, Price, cost, nano_usd_to_usd

tokens = st.integers(0, MAX_TOKENS)
amounts = st.integers(0, MAX_PRICE)


def priced(input_per_million: int, output_per_million: int) -> Price:
    return Price("a/b", "prc_1", NanoUsd(input_per_million), NanoUsd(output_per_million))


prices = st.builds(priced, amounts, amounts)


@given(tokens, tokens, prices)
def test_a_cost_is_the_exact_one_rounded_up_to_a_whole_nano_dollar(
    input_tokens: int, output_tokens: int, price: Price
) -> None:
    exact = Fraction(input_tokens * price.input_per_million + output_tokens * price.output_per_million, 1_000_000)
    assert 0 <= cost(input_tokens, output_tokens, price) - exact < 1


@given(tokens, tokens, prices)
def test_no_cost_of_a_call_overflows_a_bigint(input_tokens: int, output_tokens: int, price: Price) -> None:
    assert cost(input_tokens, output_tokens, price) <= MAX_NANO_USD


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "expected"),
    [(0, 0, 0), (1, 0, 50), (120, 48, 120 * 50 + 48 * 200), (1_000_000, 1_000_000, 250_000_000)],
)
def test_a_model_may_cost_5_cents_in_and_20_cents_out_per_million(
    input_tokens: int, output_tokens: int, expected: int
) -> None:
    assert cost(input_tokens, output_tokens, priced(50_000_000, 200_000_000)) == expected


def test_one_token_of_the_cheapest_price_costs_a_whole_nano_dollar() -> None:
    assert cost(1, 0, priced(1, 0)) == 1


def test_a_price_of_zero_is_a_price() -> None:
    assert cost(1000, 1000, priced(0, 0)) == 0


@given(st.integers(-MAX_NANO_USD, MAX_NANO_USD).map(NanoUsd))
def test_amounts_are_exact_decimals_without_trailing_zeros(amount: NanoUsd) -> None:
    text = nano_usd_to_usd(amount)
    assert Decimal(text) == Decimal(amount) / 10**9
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (12_300, "0.0000123"), (1, "0.000000001"), (-5 * 10**9, "-5"), (10**10, "10")]
)
def test_examples_of_amounts(amount: int, text: str) -> None:
    assert nano_usd_to_usd(NanoUsd(amount)) == text
