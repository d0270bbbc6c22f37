import time
import uuid
from datetime import UTC, timedelta

from chassis.clock import Clock, SystemClock
from chassis.ids import new_id
from chassis.testing import FakeClock


def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock: Clock = SystemClock()

    assert clock.now().tzinfo is UTC
    first, second = clock.monotonic(), clock.monotonic()
    assert second >= first


def test_only_advance_moves_a_fake_clock() -> None:
    clock = FakeClock()
    before = clock.now()

    assert clock.now() == before
    clock.advance(timedelta(seconds=90))
    assert (clock.now() - before, clock.monotonic()) == (timedelta(seconds=90), 90.0)


def test_an_id_is_its_prefix_and_a_version_7_uuid_of_now() -> None:
    made = new_id("req_")

    parsed = uuid.UUID(made.removeprefix("req_"))
    assert len(made) == len("req_") + 32
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 5


def test_ids_sort_by_the_time_of_their_making() -> None:
    made: list[str] = []
    while len(made) < 50:
        seen = time.time_ns() >> 10  # at least a microsecond between two: more than an id's resolution
        while time.time_ns() >> 10 == seen:
            pass
        made.append(new_id("evt_"))

    assert made == sorted(made)


def test_ids_never_repeat() -> None:
    assert len({new_id("evt_") for _ in range(20_000)}) == 20_000
