"""Endpoints, deliveries and attempts as rows."""

from typing import Any

from orchestrator.webhooks.model import Attempt, Delivery, DeliveryState, DisabledReason, Endpoint


def row_to_endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row["endpoint_id"],
        url=row["url"],
        description=row["description"],
        event_types=tuple(row["event_types"]),
        enabled=row["enabled"],
        disabled_reason=DisabledReason(row["disabled_reason"]),
        disabled_at=row["disabled_at"],
        created_at=row["created_at"],
        failing_since=row["failing_since"],
        previous_secret_expires_at=row["previous_secret_expires_at"],
    )


def row_to_delivery(row: Any) -> Delivery:
    state = DeliveryState(row["state"])
    return Delivery(
        id=row["delivery_id"],
        endpoint_id=row["endpoint_id"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        state=state,
        attempts=row["attempts"],
        created_at=row["created_at"],
        next_attempt_at=row["due_at"] if state is DeliveryState.PENDING else None,
        finished_at=row["finished_at"],
        last_status=row["last_status"],
        last_error=row["last_error"],
    )


def row_to_attempt(row: Any) -> Attempt:
    return Attempt(row["number"], row["started_at"], row["duration"], row["status"], row["error"], row["response"])
