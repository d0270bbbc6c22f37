"""Endpoints, events, deliveries and attempts of webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import orjson
from chassis.errors import ArgosyError, InvalidRequest, Kind

TEST_EVENT: Final = "webhook_endpoint.test"
ENDPOINT_DISABLED_EVENT: Final = "webhook_endpoint.disabled"
EVENT_TYPES: Final = (
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "file.indexed",
    "file.failed",
    "budget.soft_limit_reached",
    "budget.hard_limit_reached",
    ENDPOINT_DISABLED_EVENT,
)
"""What an endpoint can subscribe to. The test event is sent to one endpoint, whatever it subscribes to."""

MAX_URL_CHARACTERS: Final = 2_048
MAX_DESCRIPTION_CHARACTERS: Final = 500
MAX_KEEP_PREVIOUS: Final = timedelta(days=7)
DEFAULT_KEEP_PREVIOUS: Final = timedelta(hours=24)


class WebhookUrlNotAllowed(ArgosyError):
    """The URL of a webhook endpoint is not one that Argosy may call: not HTTPS, with a user name, with a port that is
    not allowed, or at an address that is not public. Operators can allow private targets by a setting."""

    kind, reason = Kind.INVALID, "WEBHOOK_URL_NOT_ALLOWED"


class WebhookEndpointNotFound(ArgosyError):
    """There is no webhook endpoint with this id."""

    kind, reason = Kind.NOT_FOUND, "WEBHOOK_ENDPOINT_NOT_FOUND"


class WebhookDeliveryNotFound(ArgosyError):
    """There is no webhook delivery with this id; deliveries are kept for some weeks."""

    kind, reason = Kind.NOT_FOUND, "WEBHOOK_DELIVERY_NOT_FOUND"


class WebhookEndpointDisabled(ArgosyError):
    """The webhook endpoint is disabled: enable it first."""

    kind, reason = Kind.CONFLICT, "WEBHOOK_ENDPOINT_DISABLED"


class WebhookEndpointLimit(ArgosyError):
    """The tenant has as many webhook endpoints as it may have."""

    kind, reason = Kind.CONFLICT, "WEBHOOK_ENDPOINT_LIMIT"


class WebhooksNotConfigured(ArgosyError):
    """This installation has no key to keep webhook secrets with, so it offers no webhooks."""

    kind, reason = Kind.UNAVAILABLE, "WEBHOOKS_NOT_CONFIGURED"


class DisabledReason(StrEnum):
    """Why an endpoint gets no deliveries."""

    NONE = ""
    REQUESTED = "requested"
    ANSWERED_410 = "gone"
    FAILING = "failing"


class DeliveryState(StrEnum):
    """Where a delivery stands; all but PENDING are final."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as it is posted. `id` is the header webhook-id: receivers recognise repetitions by it."""

    tenant_id: str
    id: str
    type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant's events are posted. An empty `event_types` means all."""

    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    enabled: bool
    disabled_reason: DisabledReason
    disabled_at: datetime | None
    created_at: datetime
    failing_since: datetime | None
    previous_secret_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request. `status` is 0 without an answer; `error` is empty when it succeeded."""

    number: int
    started_at: datetime
    duration: timedelta
    status: int
    error: str
    response: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `next_attempt_at` is None when it is final."""

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None
    last_status: int
    last_error: str


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery with its payload, and its newest attempts in order."""

    delivery: Delivery
    payload: bytes
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Empty fields match all."""

    endpoint_id: str = ""
    state: DeliveryState | None = None
    event_type: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """What to change of an endpoint; None stays."""

    url: str | None = None
    description: str | None = None
    event_types: tuple[str, ...] | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery whose time has come, not claimed yet, with its endpoint as it is now; without a `url` when that is
    gone or disabled. Secrets are encrypted, newest first."""

    tenant_id: str
    delivery_id: str
    endpoint_id: str
    url: str = ""
    sealed_secrets: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery to attempt now. `failures` counts the failed attempts of this run through the schedule, which began
    at `scheduled_at`. `url` is empty when the endpoint is gone or disabled."""

    tenant_id: str
    delivery_id: str
    endpoint_id: str
    epoch: int
    event_id: str
    event_type: str
    payload: bytes
    attempts: int
    failures: int
    scheduled_at: datetime
    claimed_at: datetime
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an HTTP request: a status, or an error without one. `response` is the body's beginning."""

    status: int = 0
    error: str = ""
    response: str = ""
    retry_after: timedelta | None = None

    @property
    def succeeded(self) -> bool:
        return not self.error and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Disabled:
    """An endpoint was disabled by what it answered, or did not."""

    endpoint_id: str
    url: str
    reason: DisabledReason


def event_payload(event_type: str, occurred_at: datetime, data: dict[str, object]) -> bytes:
    """The body of an event, as the specification asks: type, timestamp, data."""
    timestamp = occurred_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": event_type, "timestamp": timestamp, "data": data})


def check_event_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return them without repetitions. Raises InvalidRequest for one that does not exist."""
    for one in types:
        if one not in EVENT_TYPES:
            raise InvalidRequest(f"there is no event type {one[:64]}", param="event_types")
    return tuple(dict.fromkeys(types))


def check_description(text: str) -> str:
    """Raises InvalidRequest for one that is too long, or has characters that Postgres cannot store."""
    if len(text) > MAX_DESCRIPTION_CHARACTERS or "\x00" in text:
        raise InvalidRequest(
            f"description may have {MAX_DESCRIPTION_CHARACTERS} characters, no zeros", param="description"
        )
    return text


def check_keep_previous(keep: timedelta | None) -> timedelta:
    """How long the old secret signs, too. Raises InvalidRequest."""
    if keep is None:
        return DEFAULT_KEEP_PREVIOUS
    if not timedelta(0) <= keep <= MAX_KEEP_PREVIOUS:
        raise InvalidRequest("the old secret may be kept for 0 to 7 days", param="keep_previous_seconds")
    return keep
