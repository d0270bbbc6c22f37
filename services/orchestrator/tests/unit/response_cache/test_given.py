"""When a cached answer is given, and that each is recorded and paid once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from chassis.errors import ArgosyError, DeadlineExceeded, Internal, InvalidRequest, Kind, RemoteError, Unavailable
from orchestrator.chat.model import ChatEvent
from orchestrator.reservations.model import HitRequest, Reservation, ReservedHit
from orchestrator.response_cache.model import Charge
from values.usage import NO_USAGE, CacheOutcome

from services.orchestrator.tests.harness import Harness
from services.orchestrator.tests.unit.response_cache.test_chat import ON, USAGE, a_harness, ask, outcomes

PAID = replace(ON, charge=Charge.FULL)


async def a_paid_harness() -> Harness:
    """Make one whose cache has the answer already, given to `req_1`."""
    harness = a_harness(PAID)
    await ask(harness, 1)
    return harness


def asking(harness: Harness, *numbers: int) -> list[asyncio.Task[list[ChatEvent]]]:
    return [asyncio.create_task(harness.generate(request_id=f"req_{number}")) for number in numbers]


def later(harness: Harness) -> list[tuple[str, object]]:
    """Return what was recorded after the first answer: requests, and the usage of their call."""
    return [(usage.request_id, usage.attempts[0].usage) for usage in harness.outbox.written[1:]]


async def test_an_answer_that_costs_something_is_given_once_its_price_is_held_and_waits_for_no_record() -> None:
    harness = await a_paid_harness()
    harness.outbox.gate.clear()
    harness.metering.gate = asyncio.Event()
    (asked,) = asking(harness, 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not asked.done()
    harness.metering.gate.set()
    assert outcomes(await asked) == [CacheOutcome.HIT]
    assert not later(harness)
    harness.outbox.gate.set()
    await harness.tasks.wait_idle()
    assert later(harness) == [("req_2", USAGE)]


async def test_those_who_ask_together_hold_their_prices_together_and_are_recorded_together() -> None:
    harness = await a_paid_harness()
    answers = await asyncio.gather(*asking(harness, *range(2, 12)))
    assert outcomes(*answers) == [CacheOutcome.HIT] * 10
    await harness.tasks.wait_idle()
    asked = [f"req_{number}" for number in range(2, 12)]
    assert harness.metering.hit_groups == [asked]
    assert later(harness) == [(request_id, USAGE) for request_id in asked]


async def test_those_who_come_while_a_call_is_on_its_way_share_the_next() -> None:
    harness = await a_paid_harness()
    harness.metering.gate, reserving = asyncio.Event(), asyncio.Event()
    harness.metering.on_reserve = reserving.set
    first = asking(harness, 2)
    await reserving.wait()
    later_ones = [*asking(harness, 3), *asking(harness, 4)]
    await asyncio.sleep(0.01)
    later_ones += asking(harness, 5)
    await asyncio.sleep(0.01)
    harness.metering.gate.set()
    assert outcomes(*(await asyncio.gather(*first, *later_ones))) == [CacheOutcome.HIT] * 4
    assert harness.metering.hit_groups == [["req_2"], ["req_3", "req_4", "req_5"]]
    await harness.tasks.wait_idle()


async def test_a_call_that_hangs_holds_up_no_other_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.response_cache.charge_together.MAX_HELD_BACK", 0.01)
    harness = await a_paid_harness()
    hanging, reserving = asyncio.Event(), asyncio.Event()
    harness.metering.gate, harness.metering.on_reserve = hanging, reserving.set
    first = asking(harness, 2)
    await reserving.wait()
    harness.metering.gate = None
    (second,) = asking(harness, 3)
    assert outcomes(await second) == [CacheOutcome.HIT]
    assert not first[0].done()
    hanging.set()
    await asyncio.gather(*first)
    await harness.tasks.wait_idle()


async def test_a_refusal_is_of_its_own_request() -> None:
    harness = await a_paid_harness()
    (asked,) = asking(harness, 2)
    await asked
    ((bound,), _) = harness.metering.reserved["req_2"]
    price = harness.metering.price_of(bound.price_key)
    cost = -(-(bound.input_tokens * price.input_per_million + bound.output_tokens * price.output_per_million) // 10**6)
    harness.metering.available = 2 * cost + 1
    answers = await asyncio.gather(*asking(harness, 3, 4, 5), return_exceptions=True)
    refused = [isinstance(one, RemoteError) and one.reason == "INSUFFICIENT_QUOTA" for one in answers]
    assert refused == [False, False, True]
    await harness.tasks.wait_idle()
    assert [request_id for request_id, _ in later(harness)] == ["req_2", "req_3", "req_4"]


async def test_a_client_that_leaves_before_its_charge_is_known_pays_nothing_and_the_others_get_their_answers() -> None:
    harness = await a_paid_harness()
    harness.metering.gate, reserving = asyncio.Event(), asyncio.Event()
    harness.metering.on_reserve = reserving.set
    leaving, staying = asking(harness, 2, 3)
    await reserving.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert harness.tasks.is_running((harness.principal.tenant_id, "req_2"))
    harness.metering.gate.set()
    assert outcomes(await staying) == [CacheOutcome.HIT]
    await harness.tasks.wait_idle()
    assert dict(later(harness)) == {"req_2": NO_USAGE, "req_3": USAGE}


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (Unavailable("metering restarts"), Unavailable),
        (DeadlineExceeded("metering is frozen"), Unavailable),
        (Internal("a bug"), Internal),
    ],
)
async def test_without_an_answer_of_metering_none_is_given_and_what_it_may_hold_is_released(
    failure: Exception, raised: type[Exception]
) -> None:
    harness = await a_paid_harness()
    harness.metering.failure = failure
    answers = await asyncio.gather(*asking(harness, 2, 3), return_exceptions=True)
    assert [type(one) for one in answers] == [raised] * 2
    await harness.tasks.wait_idle()
    assert later(harness) == [("req_2", NO_USAGE), ("req_3", NO_USAGE)]
    assert not harness.crashes


async def test_a_refusal_of_the_whole_call_leaves_nothing_to_release() -> None:
    harness = await a_paid_harness()
    harness.metering.failure = RemoteError(Kind.DENIED, "PERMISSION_DENIED", "not a service")
    (asked,) = asking(harness, 2)
    with pytest.raises(RemoteError, match="service"):
        await asked
    await harness.tasks.wait_idle()
    assert not later(harness)


async def test_with_a_metering_of_the_version_before_each_hit_is_reserved_and_recorded_by_itself() -> None:
    harness = await a_paid_harness()

    async def unknown(*_: Any) -> list[HitRequest]:
        raise RemoteError(Kind.INTERNAL, "UNIMPLEMENTED", "Method not found!")

    harness.metering.reserve_hits = unknown  # type: ignore[method-assign, assignment]
    answers = await asyncio.gather(*asking(harness, 2, 3))
    assert outcomes(*answers) == [CacheOutcome.HIT] * 2
    assert {"req_2", "req_3"} <= set(harness.metering.reserved)
    assert dict(later(harness)) == {"req_2": USAGE, "req_3": USAGE}


async def test_a_hit_that_metering_cannot_read_fails_no_other_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = await a_paid_harness()
    reserve, reserve_hits = harness.metering.reserve, harness.metering.reserve_hits
    invalid = RemoteError(Kind.INVALID, InvalidRequest.reason, "no call consumes that many tokens")

    async def reserve_valid(request_id: str, *arguments: Any) -> Reservation:
        if request_id == "req_3":
            raise invalid
        return await reserve(request_id, *arguments)

    async def reserve_valid_hits(hits: Sequence[HitRequest], *arguments: Any) -> Sequence[ReservedHit | ArgosyError]:
        if any(hit.request_id == "req_3" for hit in hits):
            raise invalid
        return await reserve_hits(hits, *arguments)

    monkeypatch.setattr(harness.metering, "reserve", reserve_valid)
    monkeypatch.setattr(harness.metering, "reserve_hits", reserve_valid_hits)
    first, refused, last = await asyncio.gather(*asking(harness, 2, 3, 4), return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert outcomes(first, last) == [CacheOutcome.HIT] * 2
    assert refused is invalid
    await harness.tasks.wait_idle()
    assert dict(later(harness)) == {"req_2": USAGE, "req_4": USAGE}


async def test_the_end_of_the_process_is_no_answer_and_releases_what_may_be_held() -> None:
    harness = await a_paid_harness()
    harness.metering.gate, reserving = asyncio.Event(), asyncio.Event()
    harness.metering.on_reserve = reserving.set
    (asked,) = asking(harness, 2)
    await reserving.wait()
    (charging,) = harness.tasks._running
    charging.cancel()
    with pytest.raises(Unavailable, match="stops"):
        await asked
    await harness.tasks.wait_idle()
    assert later(harness) == [("req_2", NO_USAGE)]


async def test_a_free_answer_waits_for_no_record_and_is_recorded_once() -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.outbox.gate.clear()
    answers = [await harness.generate(request_id=f"req_{number}") for number in range(2, 5)]
    assert outcomes(*answers) == [CacheOutcome.HIT] * 3
    assert len(harness.outbox.written) == 1
    harness.outbox.gate.set()
    await harness.tasks.wait_idle()
    assert [usage.request_id for usage in harness.outbox.written] == ["req_1", "req_2", "req_3", "req_4"]
