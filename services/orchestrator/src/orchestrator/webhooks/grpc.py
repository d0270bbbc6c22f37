"""WebhookService: endpoints and deliveries of the caller's tenant."""

from typing import Any

from argosy.orchestration.v1 import webhooks_pb2 as pb
from argosy.orchestration.v1.webhooks_pb2_grpc import WebhookServiceServicer, add_WebhookServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from values.protos import proto_to_duration
from values.roles import current_member

from orchestrator.webhooks.manage import ManageEndpoints
from orchestrator.webhooks.model import DeliveryFilter
from orchestrator.webhooks.protos import (
    attempt_to_proto,
    delivery_to_proto,
    endpoint_to_proto,
    proto_to_change,
    proto_to_new_endpoint,
    proto_to_state,
)
from orchestrator.webhooks.schedule import DeliveryLoop

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_ID_CHARACTERS = 128


class WebhookServicer(WebhookServiceServicer):
    """The tenant is always the caller's."""

    def __init__(self, manage: ManageEndpoints, loop: DeliveryLoop) -> None:
        self._manage = manage
        self._endpoints = manage.endpoints
        self._deliveries = manage.deliveries
        self._loop = loop

    async def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, context: Any
    ) -> pb.CreateWebhookEndpointResponse:
        endpoint, secret = await self._manage.create(_tenant(), proto_to_new_endpoint(request))
        return pb.CreateWebhookEndpointResponse(endpoint=endpoint_to_proto(endpoint), secret=secret)

    async def GetWebhookEndpoint(
        self, request: pb.GetWebhookEndpointRequest, context: Any
    ) -> pb.GetWebhookEndpointResponse:
        endpoint = await self._endpoints.get(_tenant(), _id(request.endpoint_id, "endpoint_id"))
        return pb.GetWebhookEndpointResponse(endpoint=endpoint_to_proto(endpoint))

    async def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, context: Any
    ) -> pb.ListWebhookEndpointsResponse:
        after = _optional_id(request.after, "after")
        endpoints, has_more = await self._endpoints.list(_tenant(), limit=_limit(request.limit), after=after)
        return pb.ListWebhookEndpointsResponse(endpoints=map(endpoint_to_proto, endpoints), has_more=has_more)

    async def UpdateWebhookEndpoint(
        self, request: pb.UpdateWebhookEndpointRequest, context: Any
    ) -> pb.UpdateWebhookEndpointResponse:
        endpoint_id = _id(request.endpoint_id, "endpoint_id")
        endpoint = await self._manage.update(_tenant(), endpoint_id, proto_to_change(request))
        return pb.UpdateWebhookEndpointResponse(endpoint=endpoint_to_proto(endpoint))

    async def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, context: Any
    ) -> pb.DeleteWebhookEndpointResponse:
        await self._endpoints.delete(_tenant(), _id(request.endpoint_id, "endpoint_id"))
        return pb.DeleteWebhookEndpointResponse()

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: Any
    ) -> pb.RotateWebhookSecretResponse:
        keep = proto_to_duration(request.keep_previous) if request.HasField("keep_previous") else None
        endpoint, secret = await self._manage.rotate(_tenant(), _id(request.endpoint_id, "endpoint_id"), keep)
        return pb.RotateWebhookSecretResponse(endpoint=endpoint_to_proto(endpoint), secret=secret)

    async def SendTestEvent(self, request: pb.SendTestEventRequest, context: Any) -> pb.SendTestEventResponse:
        delivery = await self._manage.send_test(_tenant(), _id(request.endpoint_id, "endpoint_id"))
        self._loop.wake()
        return pb.SendTestEventResponse(delivery=delivery_to_proto(delivery))

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: Any
    ) -> pb.ListWebhookDeliveriesResponse:
        wanted = DeliveryFilter(
            endpoint_id=_optional_id(request.endpoint_id, "endpoint_id"),
            state=proto_to_state(request.state),
            event_type=_optional_id(request.event_type, "event_type"),
            event_id=_optional_id(request.event_id, "event_id"),
        )
        after = _optional_id(request.after, "after")
        found, has_more = await self._deliveries.list(_tenant(), wanted, limit=_limit(request.limit), after=after)
        return pb.ListWebhookDeliveriesResponse(deliveries=map(delivery_to_proto, found), has_more=has_more)

    async def GetWebhookDelivery(
        self, request: pb.GetWebhookDeliveryRequest, context: Any
    ) -> pb.GetWebhookDeliveryResponse:
        detail = await self._deliveries.get(_tenant(), _id(request.delivery_id, "delivery_id"))
        return pb.GetWebhookDeliveryResponse(
            delivery=delivery_to_proto(detail.delivery),
            payload=detail.payload,
            attempts=map(attempt_to_proto, detail.attempts),
        )

    async def RedeliverWebhook(self, request: pb.RedeliverWebhookRequest, context: Any) -> pb.RedeliverWebhookResponse:
        delivery = await self._deliveries.redeliver(_tenant(), _id(request.delivery_id, "delivery_id"))
        self._loop.wake()
        return pb.RedeliverWebhookResponse(delivery=delivery_to_proto(delivery))


def registration(servicer: WebhookServicer) -> Registration:
    return add_WebhookServiceServicer_to_server, servicer, "argosy.orchestration.v1.WebhookService"


def _tenant() -> str:
    return current_member().tenant_id


def _limit(limit: int) -> int:
    if not 0 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"limit must be between 1 and {MAX_PAGE}", param="limit")
    return limit or DEFAULT_PAGE


def _id(text: str, param: str) -> str:
    if not text:
        raise InvalidRequest(f"{param} is missing", param=param)
    return _optional_id(text, param)


def _optional_id(text: str, param: str) -> str:
    if len(text) > MAX_ID_CHARACTERS or not text.isprintable():
        raise InvalidRequest(f"{param} is no id", param=param)
    return text
