from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.domain.money import MAX_NANO_USD, MAX_PRICE, MAX_TOKENS, NanoUsd, cost_of

tokens = st.integers(0, MAX_TOKENS)
prices = st.integers(0, MAX_PRICE).map(NanoUsd)


@given(tokens, tokens, prices, prices)
def test_a_cost_is_the_exact_one_rounded_up_to_a_whole_nano_dollar(
    tokens_in: int, tokens_out: int, price_in: NanoUsd, price_out: NanoUsd
) -> None:
    exact = Fraction(tokens_in * price_in + tokens_out * price_out, 1_000_000)
    assert 0 <= cost_of(tokens_in, tokens_out, price_in, price_out) - exact < 1


@given(tokens, tokens, prices, prices)
def test_no_cost_of_a_call_overflows_a_bigint(
    tokens_in: int, tokens_out: int, price_in: NanoUsd, price_out: NanoUsd
) -> None:
    assert cost_of(tokens_in, tokens_out, price_in, price_out) <= MAX_NANO_USD


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "cost"),
    [(0, 0, 0), (1, 0, 50), (120, 48, 120 * 50 + 48 * 200), (1_000_000, 1_000_000, 250_000_000)],
)
def test_the_seeded_chat_model_costs_5_cents_in_and_20_cents_out_per_million(
    tokens_in: int, tokens_out: int, cost: int
) -> None:
    assert cost_of(tokens_in, tokens_out, NanoUsd(50_000_000), NanoUsd(200_000_000)) == cost


def test_one_token_of_the_cheapest_price_costs_a_whole_nano_dollar() -> None:
    assert cost_of(1, 0, NanoUsd(1), NanoUsd(0)) == 1


def test_a_price_of_zero_is_a_price() -> None:
    assert cost_of(1000, 1000, NanoUsd(0), NanoUsd(0)) == 0
