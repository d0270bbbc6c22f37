"""Endpoints and deliveries as messages, and the messages of other features as events."""

from __future__ import annotations

from datetime import datetime

from argosy.common.v1.common_pb2 import Error, EventMeta, TokenUsage
from argosy.metering.v1 import events_pb2 as metering
from argosy.orchestration.v1 import events_pb2 as orchestration
from argosy.orchestration.v1 import jobs_pb2 as jobs
from argosy.orchestration.v1 import webhooks_pb2 as pb
from argosy.retrieval.v1 import events_pb2 as retrieval
from chassis.errors import InvalidRequest, Kind
from chassis.telemetry.redaction import mask_keys
from google.protobuf.timestamp_pb2 import Timestamp
from values.money import nano_usd_to_usd
from values.protos import duration_to_proto, proto_to_nano_usd, proto_to_timestamp, timestamp_to_proto

from orchestrator.webhooks.model import (
    Attempt,
    Delivery,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointChange,
    Event,
    event_payload,
)

_REASON_TO_PROTO = {
    DisabledReason.NONE: pb.WEBHOOK_DISABLED_REASON_UNSPECIFIED,
    DisabledReason.REQUESTED: pb.WEBHOOK_DISABLED_REASON_REQUESTED,
    DisabledReason.ANSWERED_410: pb.WEBHOOK_DISABLED_REASON_GONE,
    DisabledReason.FAILING: pb.WEBHOOK_DISABLED_REASON_FAILING,
}
_STATE_TO_PROTO = {
    DeliveryState.PENDING: pb.WEBHOOK_DELIVERY_STATE_PENDING,
    DeliveryState.SUCCEEDED: pb.WEBHOOK_DELIVERY_STATE_SUCCEEDED,
    DeliveryState.EXHAUSTED: pb.WEBHOOK_DELIVERY_STATE_EXHAUSTED,
    DeliveryState.CANCELLED: pb.WEBHOOK_DELIVERY_STATE_CANCELLED,
}
_PROTO_TO_STATE = {
    pb.WEBHOOK_DELIVERY_STATE_UNSPECIFIED: None,
    **{proto: state for state, proto in _STATE_TO_PROTO.items()},
}
_JOB_EVENTS = {
    jobs.JOB_STATE_SUCCEEDED: "job.succeeded",
    jobs.JOB_STATE_FAILED: "job.failed",
    jobs.JOB_STATE_CANCELLED: "job.cancelled",
}
_BATCH_STATUSES = {"completed", "failed", "expired", "cancelled"}
_BUDGET_EVENTS = {
    metering.BUDGET_LIMIT_SOFT: "budget.soft_limit_reached",
    metering.BUDGET_LIMIT_HARD: "budget.hard_limit_reached",
}


def endpoint_to_proto(endpoint: Endpoint) -> pb.WebhookEndpoint:
    message = pb.WebhookEndpoint(
        id=endpoint.id,
        url=endpoint.url,
        description=endpoint.description,
        event_types=endpoint.event_types,
        enabled=endpoint.enabled,
        disabled_reason=_REASON_TO_PROTO[endpoint.disabled_reason],
        created_at=timestamp_to_proto(endpoint.created_at),
    )
    _set_time(message.disabled_at, endpoint.disabled_at)
    _set_time(message.failing_since, endpoint.failing_since)
    _set_time(message.previous_secret_expires_at, endpoint.previous_secret_expires_at)
    return message


def delivery_to_proto(delivery: Delivery) -> pb.WebhookDelivery:
    message = pb.WebhookDelivery(
        id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        state=_STATE_TO_PROTO[delivery.state],
        attempts=delivery.attempts,
        created_at=timestamp_to_proto(delivery.created_at),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )
    _set_time(message.next_attempt_at, delivery.next_attempt_at)
    _set_time(message.finished_at, delivery.finished_at)
    return message


def attempt_to_proto(attempt: Attempt) -> pb.WebhookAttempt:
    return pb.WebhookAttempt(
        number=attempt.number,
        started_at=timestamp_to_proto(attempt.started_at),
        duration=duration_to_proto(attempt.duration),
        status=attempt.status,
        error=attempt.error,
        response=attempt.response,
    )


def proto_to_new_endpoint(request: pb.CreateWebhookEndpointRequest) -> EndpointChange:
    return EndpointChange(request.url, request.description, tuple(request.event_types), not request.disabled)


def proto_to_change(request: pb.UpdateWebhookEndpointRequest) -> EndpointChange:
    return EndpointChange(
        url=request.url if request.HasField("url") else None,
        description=request.description if request.HasField("description") else None,
        event_types=tuple(request.event_types.types) if request.HasField("event_types") else None,
        enabled=request.enabled if request.HasField("enabled") else None,
    )


def proto_to_state(state: pb.WebhookDeliveryState.ValueType) -> DeliveryState | None:
    """The state to filter by; None for any. Raises InvalidRequest for one that does not exist."""
    if state not in _PROTO_TO_STATE:
        raise InvalidRequest(f"there is no state {state}", param="state")
    return _PROTO_TO_STATE[state]


def job_finished_to_event(message: orchestration.JobFinished) -> Event | None:
    """None for a job of a batch: the batch has an event of its own, its jobs may be a hundred thousand."""
    job = message.job
    event_type = _JOB_EVENTS.get(job.state)
    if event_type is None or job.batch_id:
        return None
    data: dict[str, object] = {
        "id": job.id,
        "object": "job",
        "endpoint": job.endpoint,
        "model": job.model,
        "status": event_type.removeprefix("job."),
        "created_at": _unix_seconds(job.created_at),
        "finished_at": _unix_seconds(job.finished_at),
        "metadata": dict(job.metadata),
        "error": _error(job.error) if job.HasField("error") else None,
        "usage": _usage(job.usage) if job.HasField("usage") else None,
        "cost_usd": nano_usd_to_usd(proto_to_nano_usd(job.cost)),
    }
    return _event(message.meta, event_type, data)


def batch_finished_to_event(message: orchestration.BatchFinished) -> Event | None:
    """None for a status of a newer version."""
    if message.status not in _BATCH_STATUSES:
        return None
    data: dict[str, object] = {
        "id": message.batch_id,
        "object": "batch",
        "endpoint": message.endpoint,
        "status": message.status,
        "created_at": _unix_seconds(message.created_at),
        "request_counts": {"total": message.total, "completed": message.completed, "failed": message.failed},
        "input_file_id": message.input_file_id,
        "output_file_id": message.output_file_id or None,
        "error_file_id": message.error_file_id or None,
        "metadata": dict(message.metadata),
    }
    return _event(message.meta, f"batch.{message.status}", data)


def file_indexed_to_event(message: retrieval.FileIndexed) -> Event:
    failed = message.HasField("error")
    data: dict[str, object] = {
        "id": message.file_id,
        "object": "vector_store.file",
        "vector_store_id": message.vector_store_id,
        "filename": message.filename,
        "status": "failed" if failed else "completed",
        "last_error": _error(message.error) if failed else None,
    }
    return _event(message.meta, "file.failed" if failed else "file.indexed", data)


def budget_limit_to_event(message: metering.BudgetLimitReached) -> Event | None:
    """None for a limit of a newer version."""
    event_type = _BUDGET_EVENTS.get(message.limit)
    if event_type is None:
        return None
    data: dict[str, object] = {
        "object": "budget",
        "tenant_id": message.meta.tenant_id,
        "percent": message.percent,
        "cap_usd": nano_usd_to_usd(proto_to_nano_usd(message.cap)),
        "spent_usd": nano_usd_to_usd(proto_to_nano_usd(message.spent)),
        "held_usd": nano_usd_to_usd(proto_to_nano_usd(message.held)),
        "exposed_usd": nano_usd_to_usd(proto_to_nano_usd(message.exposed)),
    }
    return _event(message.meta, event_type, data)


def _event(meta: EventMeta, event_type: str, data: dict[str, object]) -> Event:
    payload = event_payload(event_type, proto_to_timestamp(meta.occurred_at), data)
    return Event(meta.tenant_id, meta.event_id, event_type, payload)


def _error(error: Error) -> dict[str, str]:
    """As the API shows it: no keys, and of a bug nothing."""
    message = "something went wrong on our side" if error.kind == Kind.INTERNAL else mask_keys(error.message)
    return {"code": error.reason.lower(), "message": message}


def _usage(usage: TokenUsage) -> dict[str, int | None]:
    return {
        "input_tokens": usage.input_tokens if usage.HasField("input_tokens") else None,
        "output_tokens": usage.output_tokens if usage.HasField("output_tokens") else None,
    }


def _unix_seconds(message: Timestamp) -> int | None:
    return message.seconds or None


def _set_time(message: Timestamp, value: datetime | None) -> None:
    if value is not None:
        message.FromDatetime(value)
