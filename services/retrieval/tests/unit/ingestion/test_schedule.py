"""What wakes indexing up, and what it does by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import EventMeta
from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.errors import Unavailable
from chassis.kafka import Record, Undecodable
from prometheus_client import REGISTRY
from retrieval.api import loops
from retrieval.api.events import TOPIC, FileAttachedEvents
from retrieval.api.loops import Indexing, Reaper, Sweeper, every
from retrieval.domain.backlog import Backlog
from retrieval.domain.ingestion import AttachmentKey, End, Outcome

from services.retrieval.tests.fakes import FakeObjects
from services.retrieval.tests.tenants import NOW, Tenant

KEY = AttachmentKey("ten_one", "vs_1", "file-1")


def a_record(value: bytes) -> Record:
    return Record(TOPIC, b"ten_one", value)


def an_event(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "meta": EventMeta(event_id="evt_1", tenant_id="ten_one"),
        "vector_store_id": "vs_1",
        "file_id": "file-1",
    }
    return FileAttached(**(fields | changes)).SerializeToString()


async def test_an_event_puts_its_file_into_the_backlog_however_often_it_comes() -> None:
    backlog = Backlog()
    for _ in range(2):
        await FileAttachedEvents(backlog)(a_record(an_event()))

    assert len(backlog) == 1
    assert await backlog.take() == KEY


@pytest.mark.parametrize(
    "value", [b"\xff\xff", b"", an_event(meta=EventMeta()), an_event(file_id=""), an_event(vector_store_id="")]
)
async def test_what_is_no_complete_event_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable):
        await FileAttachedEvents(Backlog())(a_record(value))


async def test_the_reaper_finds_what_was_lost(one: Tenant) -> None:
    lost, held = await one.claimed(NOW), await one.claimed()
    backlog = Backlog()

    await Reaper(one.ports.ingests, backlog).look()

    assert len(backlog) == 1
    assert await backlog.take() == lost.key != held.key


async def test_the_sweeper_removes_objects_and_says_whether_to_look_again(one: Tenant) -> None:
    file, objects = await one.file(), FakeObjects()
    objects.stored[f"ten_one/{file.file_id}"] = b"bytes"
    await one.ports.files.delete(one.tenant_id, file.file_id)
    sweeper = Sweeper(one.ports.removals, objects)

    assert [await sweeper.look(), await sweeper.look()] == [True, False]
    assert objects.stored == {}


async def test_a_loop_goes_on_at_once_while_there_is_more_and_after_failures() -> None:
    stop = asyncio.Event()
    seen: list[int] = []

    async def body() -> bool:
        seen.append(len(seen))
        if len(seen) == 2:
            raise Unavailable("the database does not answer")
        if len(seen) == 4:
            stop.set()
        return len(seen) == 1

    async with asyncio.timeout(10):
        await every(timedelta(milliseconds=1), body, "test")(stop)

    assert seen == [0, 1, 2, 3]


class FakeIngestion:
    """Ends each run as it is told."""

    def __init__(self, *ends: Outcome | BaseException | None) -> None:
        self._ends = list(ends)

    async def run(self, key: AttachmentKey) -> Outcome | None:
        end = self._ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end


def measured(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_every_end_of_a_run_is_counted_and_no_error_stops_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REST_SECONDS", 0.0)
    before = (
        measured("retrieval_refusals_total", reason="empty_file"),
        measured("retrieval_chunks_total", vector="reused"),
    )
    runs: Any = FakeIngestion(
        Outcome(KEY, End.COMPLETED, chunks=5, reused=2),
        Unavailable("the database does not answer"),
        ZeroDivisionError(),
        None,
        Outcome(KEY, End.FAILED, "empty_file"),
    )
    indexing = Indexing(runs, Backlog())

    for _ in range(5):
        await indexing.run(KEY)

    assert measured("retrieval_refusals_total", reason="empty_file") == before[0] + 1
    assert measured("retrieval_chunks_total", vector="reused") == before[1] + 2
