"""Webhooks through the whole fleet: from what happens to a request that verifies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("simulator")]


class Inbox:
    """Keeps the events that verify; the secret is set when the endpoint is made."""

    def __init__(self) -> None:
        self.secret = ""
        self.url = ""
        self.events: list[dict[str, Any]] = []
        self._arrived = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.events.append(Webhook(self.secret).verify(body, headers))
        self._arrived.set()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async def wait_for(self, event_type: str) -> dict[str, Any]:
        while True:
            for event in self.events:
                if event["type"] == event_type:
                    return event
            self._arrived.clear()
            await self._arrived.wait()


@asynccontextmanager
async def inbox(http: httpx.AsyncClient, *event_types: str) -> AsyncIterator[tuple[Inbox, str]]:
    receiver = Inbox()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    async with server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        made = await http.post("/v1/webhook_endpoints", json={"url": receiver.url, "event_types": list(event_types)})
        assert made.status_code == 201, made.text
        receiver.secret = made.json()["secret"]
        yield receiver, made.json()["id"]


async def test_a_test_event_arrives_is_logged_and_can_be_sent_again(fleet: Fleet) -> None:
    async with fleet.new_tenant() as http, inbox(http, "job.failed") as (receiver, endpoint_id):
        sent = (await http.post(f"/v1/webhook_endpoints/{endpoint_id}/test")).json()
        event = await receiver.wait_for("webhook_endpoint.test")
        assert event["data"] == {"endpoint_id": endpoint_id}

        while (detail := (await http.get(f"/v1/webhook_deliveries/{sent['id']}")).json())["status"] == "pending":
            await asyncio.sleep(0.1)
        assert (detail["status"], detail["payload"], detail["attempt_log"][0]["status_code"]) == (
            "succeeded",
            event,
            204,
        )
        receiver.events.clear()
        assert (await http.post(f"/v1/webhook_deliveries/{sent['id']}/redeliver")).status_code == 202
        assert await receiver.wait_for("webhook_endpoint.test") == event


async def test_the_end_of_indexing_arrives(fleet: Fleet) -> None:
    async with fleet.new_tenant() as http, inbox(http, "file.indexed", "file.failed") as (receiver, _):
        store = (await http.post("/v1/vector_stores", json={"name": "hooks"})).json()["id"]
        for name, content in (("good.txt", b"The keeper repaired the lamp."), ("bad.pdf", b"%PDF-1.7 broken")):
            upload = {"file": (name, content)}
            file = (await http.post("/v1/files", files=upload, data={"purpose": "assistants"})).json()["id"]
            await http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})

        indexed, failed = await receiver.wait_for("file.indexed"), await receiver.wait_for("file.failed")

    assert (indexed["data"]["vector_store_id"], indexed["data"]["filename"]) == (store, "good.txt")
    assert failed["data"]["filename"] == "bad.pdf"
    assert failed["data"]["last_error"]["code"] == failed["data"]["last_error"]["code"].lower() != ""


async def test_the_limit_of_a_budget_that_refuses_arrives(fleet: Fleet) -> None:
    await fleet.add_model("sim-hooks", upstream_model="instant")
    body = {"model": "sim-hooks", "max_tokens": 16, "messages": [{"role": "user", "content": "How much is left?"}]}
    async with fleet.new_tenant(cap_usd="0.0000001") as http, inbox(http) as (receiver, _):
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 429
        event = await receiver.wait_for("budget.hard_limit_reached")

    assert (event["data"]["cap_usd"], event["data"]["percent"]) == ("0.0000001", 100)


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://0x0a000001/", "ftp://a.b/"]
)
async def test_a_private_url_is_refused(fleet: Fleet, url: str) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant) as http:
        refused = await http.post("/v1/webhook_endpoints", json={"url": url})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "webhook_url_not_allowed")
    assert refused.json()["error"]["param"] == "url"
