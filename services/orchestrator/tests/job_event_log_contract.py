"""The contract of a job event log. Subclasses give `log`, and `append`, which writes a state or chunks of a run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from chassis.ids import new_id
from orchestrator.jobs.events.model import Delta, JobEvent, StateChanged, is_event_id
from orchestrator.jobs.events.ports import JobEventLog
from orchestrator.jobs.model import Job, JobKey, JobState

from services.orchestrator.tests.job_fakes import a_job

Append = Callable[[JobKey, Job | tuple[int, Sequence[bytes]]], Awaitable[str]]


def a_key() -> JobKey:
    return JobKey(new_id("ten_"), new_id("job_"))


def a_job_of(key: JobKey, state: JobState = JobState.RUNNING) -> Job:
    return a_job(state, tenant_id=key.tenant_id, job_id=key.job_id)


async def read_all(log: JobEventLog, key: JobKey, after: str = "") -> list[JobEvent]:
    events: list[JobEvent] = []
    while found := await log.read(key, after):
        events += found
        after = found[-1].event_id
    return events


class JobEventLogContract:
    async def test_events_are_read_as_they_were_written(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        ids = [await append(key, a_job_of(key)), await append(key, (3, [b'{"a":1}', b"{}"]))]

        events = await read_all(log, key)

        assert events == [StateChanged(ids[0], a_job_of(key)), Delta(ids[1], 3, [b'{"a":1}', b"{}"])]

    async def test_events_after_one_are_read_from_it(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        ids = [await append(key, (3, [b"%d" % number])) for number in range(7)]

        assert [event.event_id for event in await read_all(log, key, ids[3])] == ids[4:]
        assert await read_all(log, key, ids[-1]) == []

    async def test_a_job_of_another_tenant_has_other_events(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        event_id = await append(key, a_job_of(key))
        other = JobKey("ten_other", key.job_id)

        assert await read_all(log, other) == []
        assert not await log.contains(other, event_id)

    async def test_only_events_that_were_written_are_contained(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        event_id = await append(key, a_job_of(key))

        assert await log.contains(key, event_id)
        assert not await log.contains(key, "1-0")
        assert not await log.contains(a_key(), event_id)

    @pytest.mark.parametrize("part", ["0", "18446744073709551615", "18446744073709551616", "99999999999999999999"])
    async def test_what_passes_for_an_id_can_be_looked_up(self, log: JobEventLog, part: str) -> None:
        for event_id in (f"{part}-0", f"0-{part}"):
            if is_event_id(event_id):
                assert not await log.contains(a_key(), event_id)

    async def test_followers_are_woken_by_what_arrives(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        last = await append(key, a_job_of(key))
        with log.follow(key, last) as one, log.follow(key, last) as other:
            async with asyncio.timeout(30):
                for number in range(3):
                    event_id = await append(key, (number, [b"{}"]))
                    for follower in (one, other):
                        while event_id not in [event.event_id for event in await read_all(log, key)]:
                            await follower.wait(20)

    async def test_a_follower_is_woken_by_what_arrived_before_it_waits(self, log: JobEventLog, append: Append) -> None:
        key = a_key()
        last = await append(key, a_job_of(key))
        with log.follow(key, last) as follower:
            await append(key, (3, [b"{}"]))
            async with asyncio.timeout(30):
                await follower.wait(60)

    async def test_a_follower_waits_no_longer_than_it_says(self, log: JobEventLog) -> None:
        key = a_key()
        with log.follow(key, "") as follower:
            async with asyncio.timeout(30):
                await follower.wait(0.01)
