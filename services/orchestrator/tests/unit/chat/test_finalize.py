"""The cost of a request."""

from hypothesis import given
from hypothesis import strategies as st
from orchestrator.chat.finalize import capped_cost
from orchestrator.usage.model import AttemptUsage
from values.money import ClassPrices, NanoUsd, Price, cost
from values.usage import TokenDetails, TokenUsage, UsageSource

tokens = st.integers(0, 10**10)
amounts = st.integers(0, 10**12).map(NanoUsd)
class_prices = st.none() | st.builds(ClassPrices, *(st.none() | amounts for _ in ClassPrices._fields))
prices = st.builds(Price, st.just("a/b"), st.just("prc_1"), amounts, amounts, class_prices)
usages = st.builds(
    lambda source, read, written, found: TokenUsage(source, read, written, found.within(read or 0, written or 0)),
    st.sampled_from(UsageSource),
    st.none() | tokens,
    st.none() | tokens,
    st.builds(TokenDetails, *(tokens for _ in TokenDetails._fields)),
)
attempts = st.builds(AttemptUsage, st.just(1), prices, usages)
UNLIMITED = NanoUsd(10**40)


@given(st.lists(attempts, max_size=5))
def test_a_cost_is_the_sum_over_attempts_of_known_usage(used: list[AttemptUsage]) -> None:
    known = [
        cost(usage.input_tokens, usage.output_tokens, price, usage.details)
        for _, price, usage, _ in used
        if usage.source is not UsageSource.UNKNOWN
        and usage.input_tokens is not None
        and usage.output_tokens is not None
    ]

    assert capped_cost(used, UNLIMITED) == sum(known)


@given(st.lists(attempts, max_size=5), st.integers(0, 10**14).map(NanoUsd))
def test_a_cost_is_never_above_what_was_held(used: list[AttemptUsage], held: NanoUsd) -> None:
    assert 0 <= capped_cost(used, held) <= held


def test_an_explicit_price_of_zero_is_a_price() -> None:
    assert cost(10**6, 10**6, Price("minilm/m", "prc_1", NanoUsd(0), NanoUsd(0))) == 0
