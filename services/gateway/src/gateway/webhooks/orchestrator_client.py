"""Webhooks in the orchestrator, over gRPC. Another tenant's endpoints and deliveries are not found."""

import orjson
from argosy.orchestration.v1 import webhooks_pb2 as pb
from argosy.orchestration.v1.webhooks_pb2_grpc import WebhookServiceStub
from chassis.grpc import Channel
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from values.protos import proto_to_timestamp

from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds
from gateway.webhooks.schemas import (
    DeliveryStatus,
    DisabledReason,
    WebhookAttemptRead,
    WebhookDeliveryDetail,
    WebhookDeliveryRead,
    WebhookEndpointCreate,
    WebhookEndpointRead,
    WebhookEndpointUpdate,
    WebhookEndpointWithSecret,
)

_PROTO_TO_REASON: dict[pb.WebhookDisabledReason.ValueType, DisabledReason] = {
    pb.WEBHOOK_DISABLED_REASON_REQUESTED: "requested",
    pb.WEBHOOK_DISABLED_REASON_GONE: "gone",
    pb.WEBHOOK_DISABLED_REASON_FAILING: "failing",
}
_STATUS_TO_PROTO: dict[DeliveryStatus, pb.WebhookDeliveryState.ValueType] = {
    "pending": pb.WEBHOOK_DELIVERY_STATE_PENDING,
    "succeeded": pb.WEBHOOK_DELIVERY_STATE_SUCCEEDED,
    "exhausted": pb.WEBHOOK_DELIVERY_STATE_EXHAUSTED,
    "cancelled": pb.WEBHOOK_DELIVERY_STATE_CANCELLED,
}
_PROTO_TO_STATUS = {state: status for status, state in _STATUS_TO_PROTO.items()}


class WebhooksClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = WebhookServiceStub(channel)

    async def create(self, body: WebhookEndpointCreate) -> WebhookEndpointWithSecret:
        """Raises WEBHOOK_URL_NOT_ALLOWED, WEBHOOK_ENDPOINT_LIMIT, WEBHOOKS_NOT_CONFIGURED."""
        request = pb.CreateWebhookEndpointRequest(
            url=body.url,
            description=body.description,
            event_types=body.event_types,
            disabled=body.status == "disabled",
        )
        response = await self._stub.CreateWebhookEndpoint(request)
        return _with_secret(response.endpoint, response.secret)

    async def get(self, endpoint_id: str) -> WebhookEndpointRead:
        """Raises WEBHOOK_ENDPOINT_NOT_FOUND."""
        response = await self._stub.GetWebhookEndpoint(pb.GetWebhookEndpointRequest(endpoint_id=endpoint_id))
        return proto_to_endpoint(response.endpoint)

    async def list(self, page: PageRequest) -> ListResponse[WebhookEndpointRead]:
        request = pb.ListWebhookEndpointsRequest(limit=page.limit, after=page.after)
        response = await self._stub.ListWebhookEndpoints(request)
        return ListResponse.of(map(proto_to_endpoint, response.endpoints), has_more=response.has_more)

    async def update(self, endpoint_id: str, body: WebhookEndpointUpdate) -> WebhookEndpointRead:
        """Raises WEBHOOK_ENDPOINT_NOT_FOUND, WEBHOOK_URL_NOT_ALLOWED."""
        request = pb.UpdateWebhookEndpointRequest(
            endpoint_id=endpoint_id,
            url=body.url,
            description=body.description,
            event_types=None if body.event_types is None else pb.WebhookEventTypes(types=body.event_types),
            enabled=None if body.status is None else body.status == "enabled",
        )
        response = await self._stub.UpdateWebhookEndpoint(request)
        return proto_to_endpoint(response.endpoint)

    async def delete(self, endpoint_id: str) -> None:
        """Raises WEBHOOK_ENDPOINT_NOT_FOUND."""
        await self._stub.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(endpoint_id=endpoint_id))

    async def rotate_secret(self, endpoint_id: str, keep_previous_seconds: int) -> WebhookEndpointWithSecret:
        """Raises WEBHOOK_ENDPOINT_NOT_FOUND, WEBHOOKS_NOT_CONFIGURED."""
        keep = Duration(seconds=keep_previous_seconds)
        request = pb.RotateWebhookSecretRequest(endpoint_id=endpoint_id, keep_previous=keep)
        response = await self._stub.RotateWebhookSecret(request)
        return _with_secret(response.endpoint, response.secret)

    async def send_test(self, endpoint_id: str) -> WebhookDeliveryRead:
        """Raises WEBHOOK_ENDPOINT_NOT_FOUND, WEBHOOK_ENDPOINT_DISABLED."""
        response = await self._stub.SendTestEvent(pb.SendTestEventRequest(endpoint_id=endpoint_id))
        return proto_to_delivery(response.delivery)

    async def list_deliveries(
        self, page: PageRequest, *, endpoint_id: str, status: DeliveryStatus | None, event_type: str, event_id: str
    ) -> ListResponse[WebhookDeliveryRead]:
        """Empty filters match all."""
        request = pb.ListWebhookDeliveriesRequest(
            limit=page.limit, after=page.after, endpoint_id=endpoint_id, event_type=event_type, event_id=event_id
        )
        if status is not None:
            request.state = _STATUS_TO_PROTO[status]
        response = await self._stub.ListWebhookDeliveries(request)
        return ListResponse.of(map(proto_to_delivery, response.deliveries), has_more=response.has_more)

    async def get_delivery(self, delivery_id: str) -> WebhookDeliveryDetail:
        """Raises WEBHOOK_DELIVERY_NOT_FOUND."""
        response = await self._stub.GetWebhookDelivery(pb.GetWebhookDeliveryRequest(delivery_id=delivery_id))
        return WebhookDeliveryDetail(
            **proto_to_delivery(response.delivery).model_dump(),
            payload=orjson.loads(response.payload),
            attempt_log=[proto_to_attempt(attempt) for attempt in response.attempts],
        )

    async def redeliver(self, delivery_id: str) -> WebhookDeliveryRead:
        """Raises WEBHOOK_DELIVERY_NOT_FOUND, WEBHOOK_ENDPOINT_NOT_FOUND, WEBHOOK_ENDPOINT_DISABLED."""
        response = await self._stub.RedeliverWebhook(pb.RedeliverWebhookRequest(delivery_id=delivery_id))
        return proto_to_delivery(response.delivery)


def proto_to_endpoint(message: pb.WebhookEndpoint) -> WebhookEndpointRead:
    return WebhookEndpointRead(
        id=message.id,
        url=message.url,
        description=message.description,
        event_types=list(message.event_types),
        status="enabled" if message.enabled else "disabled",
        disabled_reason=_PROTO_TO_REASON.get(message.disabled_reason),
        disabled_at=_seconds(message.disabled_at),
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        failing_since=_seconds(message.failing_since),
        previous_secret_expires_at=_seconds(message.previous_secret_expires_at),
    )


def proto_to_delivery(message: pb.WebhookDelivery) -> WebhookDeliveryRead:
    """Read a delivery. A state of a newer version is shown as pending."""
    return WebhookDeliveryRead(
        id=message.id,
        endpoint_id=message.endpoint_id,
        event_id=message.event_id,
        event_type=message.event_type,
        status=_PROTO_TO_STATUS.get(message.state, "pending"),
        attempts=message.attempts,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        next_attempt_at=_seconds(message.next_attempt_at),
        finished_at=_seconds(message.finished_at),
        last_status_code=message.last_status or None,
        last_error=message.last_error or None,
    )


def proto_to_attempt(message: pb.WebhookAttempt) -> WebhookAttemptRead:
    return WebhookAttemptRead(
        number=message.number,
        started_at=unix_seconds(proto_to_timestamp(message.started_at)),
        duration_ms=message.duration.ToMilliseconds(),
        status_code=message.status or None,
        error=message.error or None,
        response=message.response,
    )


def _with_secret(message: pb.WebhookEndpoint, secret: str) -> WebhookEndpointWithSecret:
    return WebhookEndpointWithSecret(**proto_to_endpoint(message).model_dump(), secret=secret)


def _seconds(message: Timestamp) -> int | None:
    return message.seconds or None
