"""Amounts of money in requests are exact."""

import pytest
from chassis.errors import InvalidRequest
from gateway.budgets.schemas import parse_usd
from hypothesis import given
from hypothesis import strategies as st
from values.money import MAX_NANO_USD, NanoUsd, nano_usd_to_usd

AMOUNTS = st.integers(0, MAX_NANO_USD).map(NanoUsd)


@given(AMOUNTS)
def test_amounts_are_read_as_they_were_written(amount: NanoUsd) -> None:
    assert parse_usd(nano_usd_to_usd(amount), param="x") == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ten",
        "-1",
        "-0.5",
        "1e30",
        "1e400000000",
        "1e-2000000",
        "nan",
        "inf",
        "-inf",
        "0.0000000001",
        "1000000000.0000000000000000000001",
        "1,5",
        "1_000",
        "\uff11\uff12",
        "9223372036.854775808",
    ],
)
def test_an_invalid_amount_is_refused_with_its_parameter(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_usd(text, param="cap_usd")
    assert caught.value.param == "cap_usd"
