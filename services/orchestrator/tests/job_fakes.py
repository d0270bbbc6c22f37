"""Jobs in memory, as those who watch them see them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.errors import Unavailable
from orchestrator.jobs.events.model import Delta, JobEvent, StateChanged
from orchestrator.jobs.model import Job, JobFilter, JobKey, JobState, Lane

CREATED_AT = datetime(2026, 1, 2, tzinfo=UTC)
KEY = JobKey("ten_1", "job_1")


def a_job(state: JobState = JobState.RUNNING, **fields: Any) -> Job:
    job = Job(
        tenant_id=KEY.tenant_id,
        job_id=KEY.job_id,
        project_id="prj_1",
        endpoint="/v1/chat/completions",
        model="smollm2",
        pool="default",
        lane=Lane.STANDARD,
        state=state,
        created_at=CREATED_AT,
        deadline_at=CREATED_AT + timedelta(days=1),
        metadata={},
    )
    return replace(job, **fields)


class FakeJobReader:
    """`JobReader` over jobs that the test sets. `broken` is a store that does not answer."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {JobKey(job.tenant_id, job.job_id): job for job in jobs}
        self.reads = 0
        self.broken = False

    def put(self, job: Job) -> Job:
        self.jobs[JobKey(job.tenant_id, job.job_id)] = job
        return job

    async def get(self, key: JobKey) -> Job | None:
        self.reads += 1
        if self.broken:
            raise Unavailable("the store does not answer")
        return self.jobs.get(key)

    async def list_jobs(self, tenant_id: str, wanted: JobFilter) -> list[Job]:
        return await self.list_all(wanted, tenant_id)

    async def list_finished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        raise NotImplementedError

    async def is_running(self, tenant_id: str, batch_id: str) -> bool:
        raise NotImplementedError

    async def list_unfinished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        raise NotImplementedError

    async def list_all(self, wanted: JobFilter, tenant_id: str) -> list[Job]:
        found = [
            job
            for job in self.jobs.values()
            if (not wanted.states or job.state in wanted.states)
            and tenant_id in ("", job.tenant_id)
            and (not wanted.after or job.job_id < wanted.after)
        ]
        return sorted(found, key=lambda job: job.job_id, reverse=True)[: wanted.limit + 1]


class FakeArrivals:
    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.arrived.wait()
        except TimeoutError:
            return
        self.arrived.clear()


class FakeJobEventLog:
    """`JobEventLog` in memory. `broken` is a log that does not answer; `read_at_once` bounds one read."""

    def __init__(self, read_at_once: int = 2) -> None:
        self.broken = False
        self._read_at_once = read_at_once
        self._events: dict[JobKey, list[JobEvent]] = {}
        self._followers: dict[JobKey, list[FakeArrivals]] = {}
        self._number = 0

    def append(self, key: JobKey, event: Job | tuple[int, Sequence[bytes]]) -> str:
        """Append a state, or the chunks of a run; return the event's id."""
        self._number += 1
        event_id = f"1767312000000-{self._number}"
        added = StateChanged(event_id, event) if isinstance(event, Job) else Delta(event_id, *event)
        self._events.setdefault(key, []).append(added)
        for follower in self._followers.get(key, ()):
            follower.arrived.set()
        return event_id

    def lose_all(self) -> None:
        """As Redis that was restarted without its data."""
        self._events.clear()

    @property
    def following(self) -> int:
        return sum(map(len, self._followers.values()))

    async def read(self, key: JobKey, after: str) -> Sequence[JobEvent]:
        self._check()
        events = self._events.get(key, [])
        return [event for event in events if _order(event.event_id) > _order(after or "0-0")][: self._read_at_once]

    async def contains(self, key: JobKey, event_id: str) -> bool:
        self._check()
        return any(event.event_id == event_id for event in self._events.get(key, ()))

    @contextmanager
    def follow(self, key: JobKey, after: str) -> Iterator[FakeArrivals]:
        follower = FakeArrivals()
        self._followers.setdefault(key, []).append(follower)
        try:
            yield follower
        finally:
            self._followers[key].remove(follower)

    def _check(self) -> None:
        if self.broken:
            raise Unavailable("the log does not answer")


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)
