"""A request that succeeds for each method of WebhookService; importing this registers them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from argosy.orchestration.v1 import webhooks_pb2 as pb
from google.protobuf.message import Message

from tests.e2e.call_context import CallContext
from tests.e2e.method_cases import CASES

SERVICE = "/argosy.orchestration.v1.WebhookService"


async def add_endpoint(context: CallContext, url: str = "https://127.0.0.1:8443/") -> str:
    return str((await context.call("CreateWebhookEndpoint", pb.CreateWebhookEndpointRequest(url=url))).endpoint.id)


async def add_delivery(context: CallContext) -> str:
    """A delivery that has succeeded."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        endpoint_id = await add_endpoint(context, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        sent = await context.call("SendTestEvent", pb.SendTestEventRequest(endpoint_id=endpoint_id))
        request = pb.GetWebhookDeliveryRequest(delivery_id=sent.delivery.id)
        while (await context.call("GetWebhookDelivery", request)).delivery.state == pb.WEBHOOK_DELIVERY_STATE_PENDING:
            await asyncio.sleep(0.05)
    return request.delivery_id


async def create_webhook_endpoint(context: CallContext) -> Sequence[Message]:
    return [pb.CreateWebhookEndpointRequest(url="https://127.0.0.1:8443/", event_types=["job.failed"], disabled=True)]


async def get_webhook_endpoint(context: CallContext) -> Sequence[Message]:
    return [pb.GetWebhookEndpointRequest(endpoint_id=await add_endpoint(context))]


async def list_webhook_endpoints(context: CallContext) -> Sequence[Message]:
    await add_endpoint(context)
    await add_endpoint(context)
    return [pb.ListWebhookEndpointsRequest(limit=1)]


async def update_webhook_endpoint(context: CallContext) -> Sequence[Message]:
    endpoint_id = await add_endpoint(context)
    types = pb.WebhookEventTypes(types=["file.failed"])
    return [pb.UpdateWebhookEndpointRequest(endpoint_id=endpoint_id, event_types=types, enabled=False)]


async def delete_webhook_endpoint(context: CallContext) -> Sequence[Message]:
    return [pb.DeleteWebhookEndpointRequest(endpoint_id=await add_endpoint(context))]


async def rotate_webhook_secret(context: CallContext) -> Sequence[Message]:
    return [pb.RotateWebhookSecretRequest(endpoint_id=await add_endpoint(context))]


async def send_test_event(context: CallContext) -> Sequence[Message]:
    return [pb.SendTestEventRequest(endpoint_id=await add_endpoint(context))]


async def list_webhook_deliveries(context: CallContext) -> Sequence[Message]:
    await add_delivery(context)
    return [pb.ListWebhookDeliveriesRequest(event_type="webhook_endpoint.test")]


async def get_webhook_delivery(context: CallContext) -> Sequence[Message]:
    return [pb.GetWebhookDeliveryRequest(delivery_id=await add_delivery(context))]


async def redeliver_webhook(context: CallContext) -> Sequence[Message]:
    return [pb.RedeliverWebhookRequest(delivery_id=await add_delivery(context))]


CASES.update(
    {
        f"{SERVICE}/{function.__name__.title().replace('_', '')}": function
        for function in (
            create_webhook_endpoint,
            get_webhook_endpoint,
            list_webhook_endpoints,
            update_webhook_endpoint,
            delete_webhook_endpoint,
            rotate_webhook_secret,
            send_test_event,
            list_webhook_deliveries,
            get_webhook_delivery,
            redeliver_webhook,
        )
    }
)
