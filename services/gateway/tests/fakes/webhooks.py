"""The orchestrator's WebhookService in memory. It refuses URLs at `private.example`."""

from typing import Any

from argosy.orchestration.v1 import webhooks_pb2 as pb
from argosy.orchestration.v1.webhooks_pb2_grpc import WebhookServiceServicer
from chassis.errors import Kind, RemoteError
from chassis.tenancy import current_caller

from services.gateway.tests.fakes.metering import CREATED


class FakeWebhooks(WebhookServiceServicer):
    def __init__(self) -> None:
        self.endpoints: dict[tuple[str, str], pb.WebhookEndpoint] = {}
        self.deliveries: dict[tuple[str, str], pb.GetWebhookDeliveryResponse] = {}
        self.kept: list[int] = []
        self.listed: list[pb.ListWebhookDeliveriesRequest] = []

    async def CreateWebhookEndpoint(self, request: Any, context: Any) -> Any:
        _check(request.url)
        endpoint = pb.WebhookEndpoint(
            id=f"whe_{len(self.endpoints)}",
            url=request.url,
            description=request.description,
            event_types=request.event_types,
            enabled=not request.disabled,
            created_at=CREATED,
        )
        if request.disabled:
            _disable(endpoint)
        self.endpoints[_tenant(), endpoint.id] = endpoint
        return pb.CreateWebhookEndpointResponse(endpoint=endpoint, secret="whsec_new")

    async def GetWebhookEndpoint(self, request: Any, context: Any) -> Any:
        return pb.GetWebhookEndpointResponse(endpoint=self._endpoint(request.endpoint_id))

    async def ListWebhookEndpoints(self, request: Any, context: Any) -> Any:
        found = [endpoint for (tenant, _), endpoint in self.endpoints.items() if tenant == _tenant()][::-1]
        return pb.ListWebhookEndpointsResponse(endpoints=found[: request.limit], has_more=len(found) > request.limit)

    async def UpdateWebhookEndpoint(self, request: Any, context: Any) -> Any:
        endpoint = self._endpoint(request.endpoint_id)
        if request.HasField("url"):
            _check(request.url)
            endpoint.url = request.url
        if request.HasField("description"):
            endpoint.description = request.description
        if request.HasField("event_types"):
            del endpoint.event_types[:]
            endpoint.event_types.extend(request.event_types.types)
        if request.HasField("enabled"):
            endpoint.enabled = request.enabled
            endpoint.ClearField("disabled_reason")
            endpoint.ClearField("disabled_at")
            if not request.enabled:
                _disable(endpoint)
        return pb.UpdateWebhookEndpointResponse(endpoint=endpoint)

    async def DeleteWebhookEndpoint(self, request: Any, context: Any) -> Any:
        del self.endpoints[_tenant(), self._endpoint(request.endpoint_id).id]
        return pb.DeleteWebhookEndpointResponse()

    async def RotateWebhookSecret(self, request: Any, context: Any) -> Any:
        self.kept.append(request.keep_previous.seconds)
        endpoint = self._endpoint(request.endpoint_id)
        endpoint.previous_secret_expires_at.seconds = CREATED.seconds + request.keep_previous.seconds
        return pb.RotateWebhookSecretResponse(endpoint=endpoint, secret="whsec_rotated")

    async def SendTestEvent(self, request: Any, context: Any) -> Any:
        if not self._endpoint(request.endpoint_id).enabled:
            raise RemoteError(Kind.CONFLICT, "WEBHOOK_ENDPOINT_DISABLED", "It is disabled.")
        return pb.SendTestEventResponse(delivery=self.add(_tenant(), request.endpoint_id).delivery)

    async def ListWebhookDeliveries(self, request: Any, context: Any) -> Any:
        self.listed.append(request)
        found = [detail.delivery for (tenant, _), detail in self.deliveries.items() if tenant == _tenant()][::-1]
        return pb.ListWebhookDeliveriesResponse(deliveries=found[: request.limit], has_more=len(found) > request.limit)

    async def GetWebhookDelivery(self, request: Any, context: Any) -> Any:
        return self._delivery(request.delivery_id)

    async def RedeliverWebhook(self, request: Any, context: Any) -> Any:
        delivery = self._delivery(request.delivery_id).delivery
        delivery.state = pb.WEBHOOK_DELIVERY_STATE_PENDING
        return pb.RedeliverWebhookResponse(delivery=delivery)

    def add(self, tenant: str, endpoint_id: str) -> pb.GetWebhookDeliveryResponse:
        """Make a delivery that failed once."""
        delivery = pb.WebhookDelivery(
            id=f"whd_{len(self.deliveries)}",
            endpoint_id=endpoint_id,
            event_id="evt_1",
            event_type="job.failed",
            state=pb.WEBHOOK_DELIVERY_STATE_PENDING,
            attempts=1,
            created_at=CREATED,
            next_attempt_at=CREATED,
            last_error="timed_out",
        )
        attempt = pb.WebhookAttempt(number=1, started_at=CREATED, error="timed_out")
        attempt.duration.FromMilliseconds(15_000)
        payload = b'{"type":"job.failed","data":{"id":"job_1"}}'
        detail = pb.GetWebhookDeliveryResponse(delivery=delivery, payload=payload, attempts=[attempt])
        self.deliveries[tenant, delivery.id] = detail
        return detail

    def _endpoint(self, endpoint_id: str) -> pb.WebhookEndpoint:
        if (_tenant(), endpoint_id) not in self.endpoints:
            raise RemoteError(Kind.NOT_FOUND, "WEBHOOK_ENDPOINT_NOT_FOUND", "There is none.")
        return self.endpoints[_tenant(), endpoint_id]

    def _delivery(self, delivery_id: str) -> pb.GetWebhookDeliveryResponse:
        if (_tenant(), delivery_id) not in self.deliveries:
            raise RemoteError(Kind.NOT_FOUND, "WEBHOOK_DELIVERY_NOT_FOUND", "There is none.")
        return self.deliveries[_tenant(), delivery_id]


def _tenant() -> str:
    return current_caller().principal.tenant_id


def _check(url: str) -> None:
    if "private.example" in url:
        raise RemoteError(Kind.INVALID, "WEBHOOK_URL_NOT_ALLOWED", "It is private.", param="url")


def _disable(endpoint: pb.WebhookEndpoint) -> None:
    endpoint.disabled_reason = pb.WEBHOOK_DISABLED_REASON_REQUESTED
    endpoint.disabled_at.CopyFrom(CREATED)
