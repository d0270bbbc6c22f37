"""The rules by which the chaos drills pair provider calls with settlements: what they accept, and what they catch."""

from dataclasses import replace

import pytest

from tests.chaos.pairing import Bound, Call, Request, Settlement, pair_all

CHEAP = Bound("up/cheap", 100, 50, 1_000_000, 2_000_000)
DEAR = Bound("up/dear", 100, 50, 100_000_000, 200_000_000)
FIRST = Call(1, "t", 64, "up/cheap", True, 7, 3, "cut")
SECOND = Call(2, "t", 64, "up/dear", True, 8, 4, "answered", usage_sent=True)
LEASE = Settlement(0, "exposed", "unknown", (None, None), "", 0, DEAR.cost)


def exposed(attempt: int, bound: Bound) -> Settlement:
    return Settlement(attempt, "exposed", "unknown", (None, None), bound.price_key, 0, bound.cost)


def billed(attempt: int, call: Call, bound: Bound, source: str = "reported") -> Settlement:
    return Settlement(attempt, "billed", source, call.tokens, call.price_key, bound.cost_of(*call.tokens), 0)


def released(attempt: int, bound: Bound) -> Settlement:
    return Settlement(attempt, "released", "reported", (0, 0), bound.price_key, 0, 0)


def unpaired(calls: list[Call], *settlements: Settlement) -> list[str]:
    return pair_all(calls, {("t", 64): Request("req_1", (CHEAP, DEAR), settlements)}).unpaired


def test_a_failed_and_an_answered_call_pair_with_an_exposed_and_a_billed_settlement() -> None:
    settlements = (exposed(1, CHEAP), billed(2, SECOND, DEAR))
    result = pair_all([FIRST, SECOND], {("t", 64): Request("req_1", (CHEAP, DEAR), settlements)})
    assert (result.calls, dict(result.verdicts), result.unpaired) == (2, {"exposed": 1, "billed": 1}, [])


def test_a_refused_call_may_be_released_or_exposed() -> None:
    refused = replace(FIRST, end="refused")
    assert unpaired([refused], released(1, CHEAP)) == []
    assert unpaired([refused], exposed(1, CHEAP)) == []


def test_an_announced_call_that_was_never_sent_may_be_exposed() -> None:
    assert unpaired([FIRST], exposed(1, CHEAP), exposed(2, DEAR)) == []


def test_two_calls_of_one_candidate_pair_by_their_tokens() -> None:
    other = replace(SECOND, number=3, prompt_tokens=9)
    assert unpaired([SECOND, other], billed(1, other, DEAR), billed(2, SECOND, DEAR)) == []


def test_what_exceeds_the_hold_is_exposed() -> None:
    bill = DEAR.cost_of(*SECOND.tokens)
    assert unpaired([SECOND], replace(billed(1, SECOND, DEAR), cost=bill - 5, exposed=5)) == []


@pytest.mark.parametrize(
    ("settlements", "count"),
    [
        pytest.param((exposed(1, CHEAP),), 1, id="one settlement for two calls, on the first candidate"),
        pytest.param((LEASE,), 2, id="the lease was exposed, and names no candidate"),
        pytest.param((released(1, CHEAP), billed(2, SECOND, DEAR)), 1, id="a call that did work was released"),
        pytest.param((replace(exposed(1, CHEAP), exposed=1), billed(2, SECOND, DEAR)), 1, id="below its bound"),
        pytest.param((exposed(1, CHEAP), billed(2, FIRST, CHEAP)), 1, id="both on the first candidate"),
        pytest.param((exposed(1, CHEAP), exposed(2, DEAR), billed(3, SECOND, DEAR)), 0, id="exposed beside its bill"),
        pytest.param(
            (exposed(1, CHEAP), billed(2, SECOND, DEAR), billed(3, SECOND, DEAR)), 1, id="one call billed twice"
        ),
        pytest.param((exposed(1, CHEAP), replace(billed(2, SECOND, DEAR), tokens=(8, 5))), 2, id="other tokens"),
        pytest.param((), 2, id="nothing was settled"),
    ],
)
def test_a_call_without_its_settlement_is_unpaired(settlements: tuple[Settlement, ...], count: int) -> None:
    assert len(unpaired([FIRST, SECOND], *settlements)) == count


def test_a_complete_document_is_never_billed_by_a_count() -> None:
    counted = replace(SECOND, stream=False)
    assert len(unpaired([counted], billed(1, counted, DEAR, "counted"))) == 2
    assert unpaired([SECOND], billed(1, SECOND, DEAR, "counted")) == []


def test_a_call_without_a_reservation_is_unpaired() -> None:
    assert pair_all([FIRST], {}).unpaired == ["call 1 of up/cheap has no reservation"]
