"""Events of all features from Kafka: each becomes a delivery for every endpoint that wants it."""

from collections.abc import Callable
from typing import Any

from argosy.metering.v1.events_pb2 import BudgetLimitReached
from argosy.orchestration.v1.events_pb2 import BatchFinished, JobFinished
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.errors import InvalidRequest
from chassis.kafka import Record, Undecodable
from google.protobuf.message import DecodeError

from orchestrator.metrics import WEBHOOK_DELIVERIES_MADE
from orchestrator.webhooks.model import Event
from orchestrator.webhooks.ports import DeliveryStore
from orchestrator.webhooks.protos import (
    batch_finished_to_event,
    budget_limit_to_event,
    file_indexed_to_event,
    job_finished_to_event,
)

JOB_FINISHED = "argosy.orchestration.job-finished.v1"
BATCH_FINISHED = "argosy.orchestration.batch-finished.v1"
FILE_INDEXED = "argosy.retrieval.file-indexed.v1"
BUDGET_LIMIT_REACHED = "argosy.metering.budget-limit-reached.v1"

# By topic: the message, and how it becomes an event.
SOURCES: dict[str, tuple[Any, Callable[[Any], Event | None]]] = {
    JOB_FINISHED: (JobFinished, job_finished_to_event),
    BATCH_FINISHED: (BatchFinished, batch_finished_to_event),
    FILE_INDEXED: (FileIndexed, file_indexed_to_event),
    BUDGET_LIMIT_REACHED: (BudgetLimitReached, budget_limit_to_event),
}


class WebhookEventConsumer:
    """Handles records of the topics in SOURCES. Safe to repeat: a delivery is made once per event and endpoint."""

    def __init__(self, deliveries: DeliveryStore, wake: Callable[[], None]) -> None:
        """`wake` is called after new deliveries were made."""
        self._deliveries = deliveries
        self._wake = wake

    async def __call__(self, records: list[Record]) -> None:
        """Raises Undecodable, before anything is written."""
        events = [event for record in records if (event := record_to_event(record)) is not None]
        try:
            made = await self._deliveries.add(events)
        except InvalidRequest as error:
            raise Undecodable(error.message) from error
        WEBHOOK_DELIVERIES_MADE.inc(made)
        if made:
            self._wake()


def record_to_event(record: Record) -> Event | None:
    """None for what has no webhook. Raises Undecodable for what is no message of its topic, or has no id or tenant."""
    kind, to_event = SOURCES[record.topic]
    try:
        message = kind.FromString(record.value)
        event = to_event(message)
    except (DecodeError, ValueError, OverflowError) as error:
        raise Undecodable(f"not a {kind.DESCRIPTOR.full_name}") from error
    if not (message.meta.tenant_id and message.meta.event_id):
        raise Undecodable(f"a {kind.DESCRIPTOR.full_name} without tenant or event id")
    return event
