"""The Kafka consumer, the worker and the reaper of ingestion."""

from __future__ import annotations

from typing import Any

import pytest
from argosy.common.v1.common_pb2 import EventMeta
from argosy.retrieval.v1.events_pb2 import FileAttached
from chassis.errors import Unavailable
from chassis.kafka import Record, Undecodable
from prometheus_client import REGISTRY
from retrieval.ingestion import schedule
from retrieval.ingestion.consumer import FileAttachedConsumer
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.ingestion.model import RunResult, RunSummary
from retrieval.ingestion.schedule import IngestionWorker, queue_overdue
from retrieval.vector_stores.model import FILE_ATTACHED_TOPIC, AttachmentKey

from services.retrieval.tests.tenants import NOW, Tenant

KEY = AttachmentKey("ten_one", "vs_1", "file-1")


def a_record(value: bytes) -> Record:
    return Record(FILE_ATTACHED_TOPIC, b"ten_one", value)


def an_event(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "meta": EventMeta(event_id="evt_1", tenant_id="ten_one"),
        "vector_store_id": "vs_1",
        "file_id": "file-1",
    }
    return FileAttached(**(fields | changes)).SerializeToString()


async def test_repeated_events_queue_their_file_once() -> None:
    queue = FairQueue()
    for _ in range(2):
        await FileAttachedConsumer(queue)(a_record(an_event()))

    assert len(queue) == 1
    assert await queue.get() == KEY


@pytest.mark.parametrize(
    "value", [b"\xff\xff", b"", an_event(meta=EventMeta()), an_event(file_id=""), an_event(vector_store_id="")]
)
async def test_an_incomplete_event_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable):
        await FileAttachedConsumer(FairQueue())(a_record(value))


async def test_the_reaper_queues_overdue_attachments(one: Tenant) -> None:
    expired, leased = await one.claimed(NOW), await one.claimed()
    queue = FairQueue()

    await queue_overdue(one.ports.ingestion_store, queue)

    assert len(queue) == 1
    assert await queue.get() == expired.key != leased.key


class FakeIngestion:
    """Each run has the next of the given results."""

    def __init__(self, *results: RunSummary | BaseException | None) -> None:
        self._results = list(results)

    async def run(self, key: AttachmentKey) -> RunSummary | None:
        result = self._results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


def measured(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_runs_are_counted_by_result_and_an_error_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ERROR_PAUSE_SECONDS", 0.0)
    before = (
        measured("retrieval_ingestion_failures_total", reason="empty_file"),
        measured("retrieval_chunks_total", vector="reused"),
    )
    runs: Any = FakeIngestion(
        RunSummary(RunResult.COMPLETED, chunks=5, reused=2),
        Unavailable("the database does not answer"),
        ZeroDivisionError(),
        None,
        RunSummary(RunResult.FAILED, "empty_file"),
    )
    worker = IngestionWorker(runs, FairQueue())

    for _ in range(5):
        await worker.run(KEY)

    assert measured("retrieval_ingestion_failures_total", reason="empty_file") == before[0] + 1
    assert measured("retrieval_chunks_total", vector="reused") == before[1] + 2
