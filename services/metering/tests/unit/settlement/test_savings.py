"""What right-sizing saves, against exact fractions of a computation of its own."""

from fractions import Fraction
from math import ceil

from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.reservations.model import Reservation, ReservationState
from metering.settlement.model import Alternative, Attempt
from metering.settlement.settle import COUNTED_CAUSES, RequestSettler
from values.money import MAX_NANO_USD, ZERO, ClassPrices, NanoUsd, Price
from values.usage import TokenDetails, TokenUsage, UsageSource

NOW = FakeClock().now()
UNBOUNDED = Reservation("ten_a", "req_1", ReservationState.SETTLED, ZERO, (), NOW, NOW)
FALLS_BACK_TO = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "reasoning_output": "output",
    "audio_output": "output",
}

amounts = st.integers(0, 10**10).map(NanoUsd)
class_prices = st.builds(ClassPrices, **dict.fromkeys(FALLS_BACK_TO, st.none() | amounts))
tokens = st.integers(0, 10_000)


def prices(name: str) -> st.SearchStrategy[Price]:
    return st.builds(
        Price, st.just(f"local/{name}"), st.just(f"prc_{name}"), amounts, amounts, st.none() | class_prices
    )


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Tokens of all classes, some of which may have none."""
    details = draw(st.builds(TokenDetails, **dict.fromkeys(FALLS_BACK_TO, tokens)))
    read = draw(tokens) + sum(details[:5])
    written = draw(tokens) + sum(details[5:])
    return TokenUsage(draw(st.sampled_from([UsageSource.REPORTED, UsageSource.COUNTED])), read, written, details)


def owed(usage: TokenUsage, price: Price) -> int:
    """Price each class by itself, in fractions, and round up once."""
    per_class = {"input": price.input_per_million, "output": price.output_per_million}
    for name, other in FALLS_BACK_TO.items():
        own = None if price.classes is None else getattr(price.classes, name)
        per_class[name] = per_class[other] if own is None else own
    assert usage.details is not None
    assert usage.known is not None
    counts = usage.details._asdict()
    counts["input"] = usage.known[0] - sum(usage.details[:5])
    counts["output"] = usage.known[1] - sum(usage.details[5:])
    return ceil(sum(Fraction(count * per_class[name], 1_000_000) for name, count in counts.items()))


@given(usages(), prices("cheap"), prices("dear"))
def test_an_answer_saves_its_cost_at_the_other_price_less_its_charge_to_the_nano_dollar(
    usage: TokenUsage, cheap: Price, dear: Price
) -> None:
    attempt = Attempt(1, cheap.key, cheap.version, usage, cheap, alternative=Alternative(dear, answered=True))
    settlement = RequestSettler(UNBOUNDED, COUNTED_CAUSES, NOW).settle(attempt, MAX_NANO_USD, "evt_1")

    assert settlement.cost == owed(usage, cheap)
    assert settlement.right_sizing is not None
    assert settlement.right_sizing.saved == owed(usage, dear) - owed(usage, cheap)


@given(usages(), prices("cheap"), prices("dear"), st.integers(0, 10**9).map(NanoUsd), st.booleans())
def test_what_was_charged_and_saved_is_what_would_have_been_charged(
    usage: TokenUsage, cheap: Price, dear: Price, payable: NanoUsd, answered: bool
) -> None:
    alternative = Alternative(dear, answered=answered)
    attempt = Attempt(1, cheap.key, cheap.version, usage, cheap, alternative=alternative)
    settler = RequestSettler(UNBOUNDED, COUNTED_CAUSES, NOW)
    settlement = settler.settle(attempt, payable, "evt_1")
    instead = settler.settle(Attempt(1, dear.key, dear.version, usage, dear), payable, "evt_1")

    assert settlement.right_sizing is not None
    assert settlement.cost + settlement.right_sizing.saved == (instead.cost if answered else 0)
    assert instead.right_sizing is None
