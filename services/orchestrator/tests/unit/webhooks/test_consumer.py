"""Records of other features become deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_REPORTED, Error, EventMeta, Money, TokenUsage
from argosy.metering.v1.events_pb2 import BUDGET_LIMIT_HARD, BUDGET_LIMIT_SOFT, BudgetLimitReached
from argosy.orchestration.v1 import jobs_pb2 as jobs
from argosy.orchestration.v1.events_pb2 import BatchFinished, JobFinished
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.errors import InvalidRequest
from chassis.kafka import Record, Undecodable
from orchestrator.webhooks.consumer import (
    BATCH_FINISHED,
    BUDGET_LIMIT_REACHED,
    FILE_INDEXED,
    JOB_FINISHED,
    WebhookEventConsumer,
    record_to_event,
)
from orchestrator.webhooks.model import EVENT_TYPES, Event
from values.protos import timestamp_to_proto

from services.orchestrator.tests.webhook_examples import NOW

META = EventMeta(event_id="evt_1", tenant_id="ten_1", occurred_at=timestamp_to_proto(NOW))


def converted(topic: str, message: Any) -> tuple[str, dict[str, Any]]:
    event = record_to_event(Record(topic, b"ten_1", message.SerializeToString()))
    assert event is not None
    assert (event.tenant_id, event.id) == ("ten_1", "evt_1")
    body = orjson.loads(event.payload)
    assert body["type"] == event.type
    assert body["timestamp"] == "2026-01-01T12:00:00.000Z"
    assert event.type in EVENT_TYPES
    return event.type, body["data"]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_a_finished_job_is_an_event_without_its_result(outcome: str) -> None:
    job = jobs.Job(
        id="job_1",
        tenant_id="ten_1",
        endpoint="/v1/chat/completions",
        model="demo",
        state=jobs.JobState.Value(f"JOB_STATE_{outcome.upper()}"),
        created_at=timestamp_to_proto(NOW),
        finished_at=timestamp_to_proto(NOW),
        metadata={"a": "b"},
        usage=TokenUsage(source=USAGE_SOURCE_REPORTED, input_tokens=3, output_tokens=4),
        cost=Money(nano_usd=1_500),
        result=b"the answer",
    )
    if outcome == "failed":
        job.error.CopyFrom(Error(reason="UPSTREAM_FAILED", message="It failed."))

    event_type, data = converted(JOB_FINISHED, JobFinished(meta=META, job=job))

    assert event_type == f"job.{outcome}"
    assert data == {
        "id": "job_1",
        "object": "job",
        "endpoint": "/v1/chat/completions",
        "model": "demo",
        "status": outcome,
        "created_at": 1_767_268_800,
        "finished_at": 1_767_268_800,
        "metadata": {"a": "b"},
        "error": {"code": "upstream_failed", "message": "It failed."} if outcome == "failed" else None,
        "usage": {"input_tokens": 3, "output_tokens": 4},
        "cost_usd": "0.0000015",
    }


def test_a_job_of_a_batch_has_no_event_of_its_own() -> None:
    job = jobs.Job(id="job_1", state=jobs.JOB_STATE_SUCCEEDED, batch_id="batch_1")

    assert record_to_event(Record(JOB_FINISHED, b"", JobFinished(meta=META, job=job).SerializeToString())) is None


@pytest.mark.parametrize(
    ("kind", "message", "shown"),
    [
        ("upstream", "bad key sk-0123456789abcdefghij", "bad key sk-[redacted]"),
        ("internal", "line 7 of a file", "something went wrong on our side"),
    ],
)
def test_an_event_has_no_key_and_no_bug_in_its_error(kind: str, message: str, shown: str) -> None:
    job = jobs.Job(state=jobs.JOB_STATE_FAILED, error=Error(kind=kind, reason="R", message=message))

    _, data = converted(JOB_FINISHED, JobFinished(meta=META, job=job))

    assert data["error"]["message"] == shown


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_a_finished_batch_is_an_event_with_its_counts(status: str) -> None:
    message = BatchFinished(
        meta=META, batch_id="batch_1", status=status, total=10, completed=9, failed=1, output_file_id="file-2"
    )

    event_type, data = converted(BATCH_FINISHED, message)

    assert event_type == f"batch.{status}"
    assert data["request_counts"] == {"total": 10, "completed": 9, "failed": 1}
    assert (data["output_file_id"], data["error_file_id"]) == ("file-2", None)


def test_an_indexed_file_is_an_event_also_when_it_failed() -> None:
    message = FileIndexed(meta=META, file_id="file-1", vector_store_id="vs_1", filename="a.pdf")
    assert converted(FILE_INDEXED, message) == (
        "file.indexed",
        {
            "id": "file-1",
            "object": "vector_store.file",
            "vector_store_id": "vs_1",
            "filename": "a.pdf",
            "status": "completed",
            "last_error": None,
        },
    )
    message.error.CopyFrom(Error(reason="EMPTY_FILE", message="It is empty."))
    event_type, data = converted(FILE_INDEXED, message)
    assert (event_type, data["status"]) == ("file.failed", "failed")
    assert data["last_error"] == {"code": "empty_file", "message": "It is empty."}


@pytest.mark.parametrize(
    ("limit", "event_type"),
    [(BUDGET_LIMIT_SOFT, "budget.soft_limit_reached"), (BUDGET_LIMIT_HARD, "budget.hard_limit_reached")],
)
def test_a_reached_limit_is_an_event_in_exact_dollars(limit: Any, event_type: str) -> None:
    message = BudgetLimitReached(
        meta=META, limit=limit, percent=80, cap=Money(nano_usd=10**9), held=Money(nano_usd=8 * 10**8)
    )

    found, data = converted(BUDGET_LIMIT_REACHED, message)

    assert found == event_type
    assert (data["cap_usd"], data["held_usd"], data["spent_usd"]) == ("1", "0.8", "0")


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (JOB_FINISHED, JobFinished(meta=META, job=jobs.Job(state=jobs.JOB_STATE_RUNNING))),
        (BATCH_FINISHED, BatchFinished(meta=META, status="paused")),
        (BUDGET_LIMIT_REACHED, BudgetLimitReached(meta=META)),
    ],
)
def test_what_a_newer_version_may_say_is_passed_over(topic: str, message: Any) -> None:
    assert record_to_event(Record(topic, b"", message.SerializeToString())) is None


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xff",
        FileIndexed(file_id="file-1").SerializeToString(),
        FileIndexed(meta=EventMeta(event_id="evt_1")).SerializeToString(),
        FileIndexed(meta=EventMeta(tenant_id="ten_1")).SerializeToString(),
    ],
)
def test_what_is_no_event_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable):
        record_to_event(Record(FILE_INDEXED, b"", value))


class Deliveries:
    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self._error = error

    async def add(self, events: Sequence[Event]) -> int:
        if self._error:
            raise self._error
        self.events += events
        return len(events)


async def test_a_batch_of_records_is_added_at_once_and_wakes_the_deliveries() -> None:
    deliveries, woken = Deliveries(), []
    consume = WebhookEventConsumer(deliveries, lambda: woken.append(True))  # type: ignore[arg-type]
    batch_item = JobFinished(meta=META, job=jobs.Job(state=jobs.JOB_STATE_SUCCEEDED, batch_id="batch_1"))
    records = [
        Record(FILE_INDEXED, b"", FileIndexed(meta=META, file_id="file-1").SerializeToString()),
        Record(JOB_FINISHED, b"", batch_item.SerializeToString()),
    ]

    await consume(records)
    assert ([event.type for event in deliveries.events], woken) == (["file.indexed"], [True])
    await consume(records[1:])
    assert woken == [True]


async def test_a_tenant_that_cannot_exist_does_not_block_the_topic() -> None:
    consume = WebhookEventConsumer(Deliveries(InvalidRequest("malformed")), lambda: None)  # type: ignore[arg-type]

    with pytest.raises(Undecodable):
        await consume([Record(FILE_INDEXED, b"", FileIndexed(meta=META).SerializeToString())])
