"""Following a job: from its log and its store, resumed, after its end, and while either does not answer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from chassis.errors import Unavailable
from orchestrator.jobs.errors import JobNotFound
from orchestrator.jobs.events.model import FINAL_EVENT_ID, Delta, EventIdUnknown, JobEvent, StateChanged
from orchestrator.jobs.events.watch import JobWatcher
from orchestrator.jobs.model import JobKey, JobState

from services.orchestrator.tests.job_fakes import KEY, FakeJobEventLog, FakeJobReader, a_job

RUNNING, DONE = a_job(), a_job(JobState.SUCCEEDED, result=b'{"id":"chatcmpl-1"}')
LOGGED_DONE = a_job(JobState.SUCCEEDED)
"""As the log has it: without the result."""


@pytest.fixture
def reader() -> FakeJobReader:
    return FakeJobReader(RUNNING)


@pytest.fixture
def log() -> FakeJobEventLog:
    return FakeJobEventLog()


@pytest.fixture
def watcher(reader: FakeJobReader, log: FakeJobEventLog) -> JobWatcher:
    return JobWatcher(reader, log, min_poll_seconds=0.01, max_poll_seconds=0.05)


async def follow(watcher: JobWatcher, after: str = "") -> AsyncGenerator[JobEvent, None]:
    events = await watcher.open(KEY, after)
    assert events is not None
    return events


async def rest_of(events: AsyncGenerator[JobEvent, None]) -> list[JobEvent]:
    async with asyncio.timeout(30), aclosing(events):
        return [event async for event in events]


def shown(events: list[JobEvent]) -> list[tuple[str, object]]:
    """Each event's id, with its state or chunks."""
    return [(e.event_id, e.job.state.value if isinstance(e, StateChanged) else list(e.payloads)) for e in events]


async def test_states_and_chunks_are_followed_to_the_end_with_the_result(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    ids = [log.append(KEY, RUNNING)]
    events = await follow(watcher)
    first = await anext(events)
    ids += [log.append(KEY, (2, [b"a"])), log.append(KEY, (2, [b"b", b"c"]))]
    reader.put(DONE)
    log.append(KEY, LOGGED_DONE)

    seen = [first, *await rest_of(events)]

    assert shown(seen) == [
        (ids[0], "running"),
        (ids[1], [b"a"]),
        (ids[2], [b"b", b"c"]),
        (FINAL_EVENT_ID, "succeeded"),
    ]
    assert isinstance(seen[-1], StateChanged)
    assert seen[-1].job.result == DONE.result
    assert log.following == 0


async def test_a_finished_job_replays_what_is_kept_and_ends(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    ids = [log.append(KEY, RUNNING), *(log.append(KEY, (2, [b"%d" % n])) for n in range(5))]
    log.append(KEY, LOGGED_DONE)
    reader.put(DONE)

    seen = await rest_of(await follow(watcher))

    assert [event.event_id for event in seen] == [*ids, FINAL_EVENT_ID]


async def test_a_finished_job_of_which_nothing_is_kept_still_has_its_end(
    watcher: JobWatcher, reader: FakeJobReader
) -> None:
    reader.put(DONE)

    assert shown(await rest_of(await follow(watcher))) == [(FINAL_EVENT_ID, "succeeded")]


@pytest.mark.parametrize("place", range(6))
async def test_a_watch_that_is_resumed_anywhere_sees_each_event_once(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog, place: int
) -> None:
    ids = [log.append(KEY, RUNNING), *(log.append(KEY, (2, [b"%d" % n])) for n in range(5))]
    reader.put(DONE)

    resumed = await rest_of(await follow(watcher, ids[place]))

    assert [event.event_id for event in resumed] == [*ids[place + 1 :], FINAL_EVENT_ID]


async def test_nothing_follows_the_last_event(watcher: JobWatcher, reader: FakeJobReader) -> None:
    reader.put(DONE)

    assert await watcher.open(KEY, FINAL_EVENT_ID) is None


@pytest.mark.parametrize("after", ["1-0", "9999999999999-0", "final", "x", "1", "-", "1-0-0", "¹-0", "1-" + "9" * 30])
async def test_an_id_that_the_job_does_not_have_is_unknown(
    watcher: JobWatcher, log: FakeJobEventLog, after: str
) -> None:
    log.append(KEY, RUNNING)

    with pytest.raises(EventIdUnknown):
        await watcher.open(KEY, after)


async def test_after_the_log_is_lost_its_ids_are_unknown_and_the_job_is_followed_anew(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    event_id = log.append(KEY, RUNNING)
    log.lose_all()
    with pytest.raises(EventIdUnknown):
        await watcher.open(KEY, event_id)
    reader.put(DONE)

    assert shown(await rest_of(await follow(watcher))) == [(FINAL_EVENT_ID, "succeeded")]


async def test_a_job_that_does_not_exist_cannot_be_followed(watcher: JobWatcher) -> None:
    with pytest.raises(JobNotFound):
        await watcher.open(JobKey("ten_2", KEY.job_id), "")


async def test_without_the_log_states_come_from_the_store_and_do_not_move_the_resume_point(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    log.broken = True
    events = await follow(watcher, "1767312000000-1")  # an id that cannot be checked now

    first = await anext(events)
    reader.put(a_job(JobState.QUEUED, state_reason="retry", errors=1))
    second = await anext(events)
    reader.put(DONE)

    assert shown([first, second, *await rest_of(events)]) == [
        ("", "running"),
        ("", "queued"),
        (FINAL_EVENT_ID, "succeeded"),
    ]


async def test_a_state_that_the_log_has_lost_is_seen_by_polling(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    event_id = log.append(KEY, a_job(JobState.DISPATCHED))
    events = await follow(watcher)  # the store says that the job runs by now

    assert shown([await anext(events), await anext(events)]) == [(event_id, "dispatched"), ("", "running")]
    reader.put(DONE)
    assert shown(await rest_of(events)) == [(FINAL_EVENT_ID, "succeeded")]


async def test_chunks_go_on_while_the_store_does_not_answer(
    watcher: JobWatcher, reader: FakeJobReader, log: FakeJobEventLog
) -> None:
    events = await follow(watcher)
    await anext(events)
    reader.broken = True
    reads = reader.reads
    async with asyncio.timeout(30):
        waiting = asyncio.ensure_future(anext(events))
        while reader.reads < reads + 2:
            await asyncio.sleep(0.01)
        log.append(KEY, (2, [b"a"]))
        delta = await waiting

    assert isinstance(delta, Delta)
    reader.broken = False
    reader.put(DONE)
    assert shown(await rest_of(events)) == [(FINAL_EVENT_ID, "succeeded")]


async def test_a_burst_of_chunks_does_not_read_the_store_for_each(reader: FakeJobReader, log: FakeJobEventLog) -> None:
    watcher = JobWatcher(reader, log, min_poll_seconds=3600, max_poll_seconds=3600)
    events = await follow(watcher)
    await anext(events)
    reads = reader.reads

    for number in range(50):
        log.append(KEY, (2, [b"%d" % number]))
        await anext(events)

    assert reader.reads == reads
    await events.aclose()


async def test_a_process_that_stops_ends_its_watches_with_an_error_to_resume_after(
    watcher: JobWatcher, log: FakeJobEventLog
) -> None:
    events = await follow(watcher)
    await anext(events)

    watcher.stop()

    with pytest.raises(Unavailable):
        await rest_of(events)
    assert log.following == 0


async def test_the_watch_of_a_client_that_leaves_is_forgotten(watcher: JobWatcher, log: FakeJobEventLog) -> None:
    events = await follow(watcher)
    await anext(events)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await events.aclose()

    assert log.following == 0
