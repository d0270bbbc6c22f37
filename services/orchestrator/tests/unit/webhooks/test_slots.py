"""Slots: a slow endpoint never takes those of others."""

from __future__ import annotations

from orchestrator.webhooks.slots import Slots


def acquire_all(slots: Slots, endpoint: str) -> int:
    count = 0
    while slots.acquire(endpoint):
        count += 1
    return count


def test_an_endpoint_has_a_share() -> None:
    slots = Slots(total=20, per_endpoint=4)

    assert acquire_all(slots, "a") == 4
    assert slots.rooms() == {"a": 0}
    assert acquire_all(slots, "b") == 4
    assert slots.free == 12


def test_the_total_holds() -> None:
    slots = Slots(total=10, per_endpoint=4)

    assert [acquire_all(slots, name) for name in "abc"] == [4, 4, 2]
    assert slots.free == 0


def test_time_outs_halve_the_share_and_answers_restore_it() -> None:
    slots = Slots(total=64, per_endpoint=8)
    for expected in (4, 2, 1, 1):
        assert slots.acquire("a")
        slots.release("a", timed_out=True)
        assert slots.rooms() == {"a": expected}
    for expected in range(2, 8):
        assert slots.acquire("a")
        slots.release("a", timed_out=False)
        assert slots.rooms() == {"a": expected}
    assert slots.acquire("a")
    slots.release("a", timed_out=False)
    assert slots.rooms() == {}


def test_a_claim_that_was_lost_changes_no_share() -> None:
    slots = Slots(total=64, per_endpoint=8)
    assert slots.acquire("a")
    slots.release("a", timed_out=True)
    assert slots.acquire("a")
    slots.release("a", timed_out=None)
    assert slots.rooms() == {"a": 4}


def test_however_many_endpoints_are_slow_half_of_the_slots_are_for_the_others() -> None:
    for per_endpoint in (1, 2):
        slots = Slots(total=10, per_endpoint=per_endpoint)
        slow = [f"slow-{number}" for number in range(50)]
        for name in slow:
            assert slots.acquire(name)
            slots.release(name, timed_out=True)

        assert sum(acquire_all(slots, name) for name in slow) == 5
        assert acquire_all(slots, "healthy") == per_endpoint
