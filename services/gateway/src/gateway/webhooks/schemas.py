"""Webhook endpoints, deliveries and attempts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.web.schemas import Resource, StrictBody

EventType = Literal[
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
    "webhook_endpoint.disabled",
]
EndpointStatus = Literal["enabled", "disabled"]
DisabledReason = Literal["requested", "gone", "failing"]
DeliveryStatus = Literal["pending", "succeeded", "exhausted", "cancelled"]

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2_048,
        description="Absolute, https, at a public address.",
        examples=["https://example.com/webhooks"],
    ),
]
# No zeros, which Postgres cannot store.
Description = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
EventTypes = Annotated[list[EventType], Field(max_length=50, description="Empty: all, also those of later versions.")]


class WebhookEndpointRead(Resource):
    """Where events are posted. Its secret is shown once, when it is made."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    description: str
    event_types: list[str]
    status: EndpointStatus
    disabled_reason: DisabledReason | None = None
    disabled_at: int | None = None
    created_at: int
    failing_since: int | None = Field(None, description="Since when every attempt has failed.")
    previous_secret_expires_at: int | None = Field(None, description="Until when the old secret signs, too.")


class WebhookEndpointWithSecret(WebhookEndpointRead):
    """With the secret, `whsec_…`. It cannot be read again."""

    secret: str


class WebhookEndpointCreate(StrictBody):
    url: Url
    description: Description = ""
    event_types: EventTypes = Field([])
    status: EndpointStatus = "enabled"


class WebhookEndpointUpdate(StrictBody):
    """What is left out stays. Enabling forgets failures."""

    url: Url | None = None
    description: Description | None = None
    event_types: EventTypes | None = None
    status: EndpointStatus | None = None


class WebhookSecretRotate(StrictBody):
    keep_previous_seconds: Annotated[
        int,
        Field(strict=True, ge=0, le=604_800, description="For how long deliveries are signed with the old one, too."),
    ] = 86_400


class WebhookDeliveryRead(Resource):
    """One event for one endpoint."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    event_id: str = Field(description="The header `webhook-id` of all attempts.")
    event_type: str
    status: DeliveryStatus
    attempts: int
    created_at: int
    next_attempt_at: int | None = None
    finished_at: int | None = None
    last_status_code: int | None = Field(None, description="Of the last attempt; null without an answer.")
    last_error: str | None = None


class WebhookAttemptRead(BaseModel):
    """One HTTP request."""

    number: int
    started_at: int
    duration_ms: int
    status_code: int | None = Field(None, description="Null without an answer.")
    error: str | None = Field(
        None,
        description="Null when it succeeded; else `unexpected_status`, `redirected`, `timed_out`, `name_not_resolved`, "
        "`connection_failed`, `tls_failed`, `invalid_response` or `webhook_url_not_allowed`.",
    )
    response: str = Field(description="The first 1,024 bytes of the answer.")


class WebhookDeliveryDetail(WebhookDeliveryRead):
    """With what is posted, and the newest 50 attempts."""

    payload: dict[str, Any]
    attempt_log: list[WebhookAttemptRead]
