"""`/v1/webhook_endpoints` and `/v1/webhook_deliveries`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gateway.web.dependencies import NEWEST_FIRST, PageQuery, PathId, provided
from gateway.web.schemas import ID_PATTERN, DeletedResponse, ListResponse
from gateway.webhooks.orchestrator_client import WebhooksClient
from gateway.webhooks.schemas import (
    DeliveryStatus,
    WebhookDeliveryDetail,
    WebhookDeliveryRead,
    WebhookEndpointCreate,
    WebhookEndpointRead,
    WebhookEndpointUpdate,
    WebhookEndpointWithSecret,
    WebhookSecretRotate,
)

router = APIRouter(prefix="/v1", tags=["Webhooks"])

Webhooks = Annotated[WebhooksClient, Depends(provided(WebhooksClient))]
FilterId = Annotated[str | None, Query(pattern=ID_PATTERN)]


@router.post("/webhook_endpoints", status_code=201)
async def create_webhook_endpoint(body: WebhookEndpointCreate, webhooks: Webhooks) -> WebhookEndpointWithSecret:
    """Register an endpoint for events. The answer has its secret, which is not shown again."""
    return await webhooks.create(body)


@router.get("/webhook_endpoints", dependencies=[NEWEST_FIRST])
async def list_webhook_endpoints(webhooks: Webhooks, page: PageQuery) -> ListResponse[WebhookEndpointRead]:
    """List endpoints, newest first."""
    return await webhooks.list(page)


@router.get("/webhook_endpoints/{endpoint_id}")
async def get_webhook_endpoint(endpoint_id: PathId, webhooks: Webhooks) -> WebhookEndpointRead:
    """Read an endpoint."""
    return await webhooks.get(endpoint_id)


@router.patch("/webhook_endpoints/{endpoint_id}")
async def update_webhook_endpoint(
    endpoint_id: PathId, body: WebhookEndpointUpdate, webhooks: Webhooks
) -> WebhookEndpointRead:
    """Change an endpoint, enable or disable it. Disabling cancels the deliveries that wait."""
    return await webhooks.update(endpoint_id, body)


@router.delete("/webhook_endpoints/{endpoint_id}")
async def delete_webhook_endpoint(endpoint_id: PathId, webhooks: Webhooks) -> DeletedResponse:
    """Delete an endpoint. The log of its deliveries is kept for its time."""
    await webhooks.delete(endpoint_id)
    return DeletedResponse(id=endpoint_id, object="webhook_endpoint.deleted")


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
async def rotate_webhook_secret(
    endpoint_id: PathId, body: WebhookSecretRotate, webhooks: Webhooks
) -> WebhookEndpointWithSecret:
    """Make a new secret. Deliveries are signed with both for a while."""
    return await webhooks.rotate_secret(endpoint_id, body.keep_previous_seconds)


@router.post("/webhook_endpoints/{endpoint_id}/test", status_code=202)
async def test_webhook_endpoint(endpoint_id: PathId, webhooks: Webhooks) -> WebhookDeliveryRead:
    """Send an event of type `webhook_endpoint.test` to this endpoint."""
    return await webhooks.send_test(endpoint_id)


@router.get("/webhook_deliveries", dependencies=[NEWEST_FIRST])
async def list_webhook_deliveries(
    webhooks: Webhooks,
    page: PageQuery,
    *,
    endpoint_id: FilterId = None,
    status: DeliveryStatus | None = None,
    event_type: FilterId = None,
    event_id: FilterId = None,
) -> ListResponse[WebhookDeliveryRead]:
    """List deliveries, newest first."""
    return await webhooks.list_deliveries(
        page, endpoint_id=endpoint_id or "", status=status, event_type=event_type or "", event_id=event_id or ""
    )


@router.get("/webhook_deliveries/{delivery_id}")
async def get_webhook_delivery(delivery_id: PathId, webhooks: Webhooks) -> WebhookDeliveryDetail:
    """Read a delivery with its payload and its attempts."""
    return await webhooks.get_delivery(delivery_id)


@router.post("/webhook_deliveries/{delivery_id}/redeliver", status_code=202)
async def redeliver_webhook(delivery_id: PathId, webhooks: Webhooks) -> WebhookDeliveryRead:
    """Send a delivery again, at once and with the same id. Its schedule starts anew."""
    return await webhooks.redeliver(delivery_id)
