from datetime import UTC, datetime, timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.domain.usage import BEGINNING, END, cut, sum_up

from services.metering.tests.fakes import fake_books

START = datetime(2026, 1, 1, tzinfo=UTC)
instants = st.integers(0, 4 * 24 * 3600).map(lambda seconds: START + timedelta(seconds=seconds))


@given(instants, instants, instants)
def test_every_instant_of_a_span_is_in_one_part_of_the_cut(one: datetime, other: datetime, instant: datetime) -> None:
    start, end = sorted((one, other))
    span = cut(start, end)
    parts = [
        span.first_day <= instant.date() < span.end_day,
        span.head[0] <= instant < span.head[1],
        span.tail[0] <= instant < span.tail[1],
    ]
    assert sum(parts) == (start <= instant < end)


@given(instants.map(lambda instant: instant.replace(hour=0, minute=0, second=0, microsecond=0)), st.integers(0, 3))
def test_whole_days_leave_no_ragged_ends(midnight: datetime, days: int) -> None:
    span = cut(midnight, midnight + timedelta(days=days))
    assert span.head[0] == span.head[1]
    assert span.tail[0] == span.tail[1]


def test_an_unbounded_span_is_all_whole_days() -> None:
    span = cut(BEGINNING, END)
    assert (span.head[0], span.tail[0]) == (span.head[1], span.tail[1])


async def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    clock = FakeClock()
    reports = fake_books(clock).reports
    with pytest.raises(InvalidRequest) as refused:
        await sum_up("ten_a", clock.now(), clock.now() - timedelta(seconds=1), by_day=False, reports=reports)
    assert refused.value.param == "end"


@pytest.mark.parametrize("year", [1, 9999])
async def test_the_ends_of_time_are_no_error(year: int) -> None:
    reports = fake_books(FakeClock()).reports
    instant = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert await sum_up("ten_a", instant, instant, by_day=True, reports=reports) == []
