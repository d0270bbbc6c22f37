from datetime import UTC, datetime, timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.usage.model import BEGINNING, END, split_at_midnights
from metering.usage.sum_usage import sum_usage

from services.metering.tests.fakes import fake_stores

START = datetime(2026, 1, 1, tzinfo=UTC)
instants = st.integers(0, 4 * 24 * 3600).map(lambda seconds: START + timedelta(seconds=seconds))


@given(instants, instants, instants)
def test_every_instant_of_an_interval_is_in_one_of_its_parts(one: datetime, other: datetime, instant: datetime) -> None:
    start, end = sorted((one, other))
    split = split_at_midnights(start, end)
    parts = [
        split.first_day <= instant.date() < split.end_day,
        split.head[0] <= instant < split.head[1],
        split.tail[0] <= instant < split.tail[1],
    ]
    assert sum(parts) == (start <= instant < end)


@given(instants.map(lambda instant: instant.replace(hour=0, minute=0, second=0, microsecond=0)), st.integers(0, 3))
def test_whole_days_have_no_head_and_no_tail(midnight: datetime, days: int) -> None:
    split = split_at_midnights(midnight, midnight + timedelta(days=days))
    assert split.head[0] == split.head[1]
    assert split.tail[0] == split.tail[1]


def test_an_unbounded_interval_is_all_whole_days() -> None:
    split = split_at_midnights(BEGINNING, END)
    assert (split.head[0], split.tail[0]) == (split.head[1], split.tail[1])


async def test_an_interval_that_ends_before_it_starts_is_refused() -> None:
    clock = FakeClock()
    usage = fake_stores(clock).usage
    with pytest.raises(InvalidRequest) as refused:
        await sum_usage("ten_a", clock.now(), clock.now() - timedelta(seconds=1), by_day=False, usage=usage)
    assert refused.value.param == "end"


@pytest.mark.parametrize("year", [1, 9999])
async def test_the_ends_of_time_are_no_error(year: int) -> None:
    usage = fake_stores(FakeClock()).usage
    instant = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    sums = await sum_usage("ten_a", instant, instant, by_day=True, usage=usage)
    assert (list(sums.calls), list(sums.cache)) == ([], [])
