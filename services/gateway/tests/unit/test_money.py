"""Money on the edge is exact."""

from decimal import Decimal

import pytest
from chassis.errors import InvalidRequest
from gateway.domain.money import LARGEST, NanoUsd, from_usd, to_usd
from hypothesis import given
from hypothesis import strategies as st

AMOUNTS = st.integers(0, LARGEST).map(NanoUsd)


@given(AMOUNTS)
def test_what_is_written_is_read_back(amount: NanoUsd) -> None:
    assert from_usd(to_usd(amount), param="x") == amount


@given(st.integers(-LARGEST, LARGEST).map(NanoUsd))
def test_what_is_written_is_the_exact_decimal_without_zeros_at_its_end(amount: NanoUsd) -> None:
    text = to_usd(amount)
    assert Decimal(text) == Decimal(amount) / 10**9
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (12_300, "0.0000123"), (1, "0.000000001"), (-5 * 10**9, "-5"), (10**10, "10")]
)
def test_amounts_look_like_this(amount: int, text: str) -> None:
    assert to_usd(NanoUsd(amount)) == text


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
def test_what_is_no_amount_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_usd(text, param="cap_usd")
    assert caught.value.param == "cap_usd"
