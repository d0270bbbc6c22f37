"""`/v1/webhook_endpoints` and `/v1/webhook_deliveries`."""

from typing import Any, get_args

import httpx
import pytest
from argosy.orchestration.v1 import webhooks_pb2 as pb
from gateway.webhooks.schemas import EventType
from orchestrator.webhooks.model import EVENT_TYPES

from services.gateway.tests.fakes.gateway import GatewayFixture

ENDPOINTS, DELIVERIES = "/v1/webhook_endpoints", "/v1/webhook_deliveries"
URL = "https://example.com/hook"


@pytest.fixture
async def endpoint(demo: httpx.AsyncClient) -> str:
    return str((await demo.post(ENDPOINTS, json={"url": URL})).json()["id"])


async def test_a_created_endpoint_shows_its_secret_once(demo: httpx.AsyncClient) -> None:
    body = {"url": URL, "description": "mine", "event_types": ["job.failed"], "status": "disabled"}
    response = await demo.post(ENDPOINTS, json=body)

    assert response.status_code == 201
    created = response.json()
    assert created.pop("secret") == "whsec_new"
    assert (created["object"], created["status"], created["disabled_reason"]) == (
        "webhook_endpoint",
        "disabled",
        "requested",
    )
    read = (await demo.get(f"{ENDPOINTS}/{created['id']}")).json()
    assert read == created
    listed = (await demo.get(ENDPOINTS)).json()
    assert (listed["data"], listed["has_more"]) == ([created], False)
    assert "whsec" not in str(listed["data"])


async def test_an_endpoint_is_changed_in_the_parts_that_are_named(demo: httpx.AsyncClient, endpoint: str) -> None:
    path = f"{ENDPOINTS}/{endpoint}"
    await demo.patch(path, json={"event_types": ["file.failed"], "description": "new"})
    await demo.patch(path, json={"status": "disabled"})

    read = (await demo.get(path)).json()
    assert (read["url"], read["description"], read["event_types"]) == (URL, "new", ["file.failed"])
    assert (read["status"], read["disabled_at"] is not None) == ("disabled", True)
    enabled = (await demo.patch(path, json={"status": "enabled", "event_types": []})).json()
    assert (enabled["status"], enabled["event_types"], enabled["disabled_at"]) == ("enabled", [], None)


async def test_an_endpoint_is_deleted(demo: httpx.AsyncClient, endpoint: str) -> None:
    deleted = (await demo.delete(f"{ENDPOINTS}/{endpoint}")).json()

    assert deleted == {"id": endpoint, "object": "webhook_endpoint.deleted", "deleted": True}
    response = await demo.get(f"{ENDPOINTS}/{endpoint}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "webhook_endpoint_not_found")


async def test_a_secret_is_rotated_and_the_old_one_kept_for_a_day_or_as_long_as_asked(
    gateway: GatewayFixture, demo: httpx.AsyncClient, endpoint: str
) -> None:
    path = f"{ENDPOINTS}/{endpoint}/rotate_secret"
    rotated = (await demo.post(path, json={})).json()
    await demo.post(path, json={"keep_previous_seconds": 0})

    assert rotated["secret"] == "whsec_rotated"
    assert rotated["previous_secret_expires_at"] is not None
    assert gateway.webhooks.kept == [86_400, 0]


async def test_a_test_event_is_a_delivery(demo: httpx.AsyncClient, endpoint: str) -> None:
    response = await demo.post(f"{ENDPOINTS}/{endpoint}/test")

    assert response.status_code == 202
    assert (response.json()["object"], response.json()["status"]) == ("webhook_delivery", "pending")
    await demo.patch(f"{ENDPOINTS}/{endpoint}", json={"status": "disabled"})
    refused = await demo.post(f"{ENDPOINTS}/{endpoint}/test")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "webhook_endpoint_disabled")


async def test_deliveries_are_listed_by_filters(
    gateway: GatewayFixture, demo: httpx.AsyncClient, endpoint: str
) -> None:
    for _ in range(2):
        gateway.webhooks.add(gateway.tenants["demo"], endpoint)
    filters: dict[str, Any] = {
        "endpoint_id": endpoint,
        "status": "exhausted",
        "event_type": "job.failed",
        "event_id": "evt_1",
        "limit": 1,
        "after": "whd_9",
    }
    listed = (await demo.get(DELIVERIES, params=filters)).json()

    assert (len(listed["data"]), listed["has_more"]) == (1, True)
    (asked,) = gateway.webhooks.listed
    assert (asked.endpoint_id, asked.state, asked.event_type, asked.event_id, asked.limit, asked.after) == (
        endpoint,
        pb.WEBHOOK_DELIVERY_STATE_EXHAUSTED,
        "job.failed",
        "evt_1",
        1,
        "whd_9",
    )


async def test_a_delivery_shows_its_payload_and_its_attempts(
    gateway: GatewayFixture, demo: httpx.AsyncClient, endpoint: str
) -> None:
    delivery = gateway.webhooks.add(gateway.tenants["demo"], endpoint).delivery.id
    read = (await demo.get(f"{DELIVERIES}/{delivery}")).json()

    assert read["payload"] == {"type": "job.failed", "data": {"id": "job_1"}}
    (attempt,) = read["attempt_log"]
    assert (attempt["number"], attempt["duration_ms"], attempt["status_code"]) == (1, 15_000, None)
    assert (attempt["error"], read["last_error"], read["last_status_code"]) == ("timed_out", "timed_out", None)
    again = await demo.post(f"{DELIVERIES}/{delivery}/redeliver")
    assert (again.status_code, again.json()["event_id"]) == (202, read["event_id"])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"url": "https://private.example/"}, "webhook_url_not_allowed", "url"),
        ({}, "invalid_request", "url"),
        ({"url": ""}, "invalid_request", "url"),
        ({"url": URL, "event_types": ["job.exploded"]}, "invalid_request", "event_types"),
        ({"url": URL, "event_types": "job.failed"}, "invalid_request", "event_types"),
        ({"url": URL, "description": "x" * 501}, "invalid_request", "description"),
        ({"url": URL, "description": "\x00"}, "invalid_request", "description"),
        ({"url": URL, "status": "off"}, "invalid_request", "status"),
        ({"url": URL, "secret": "whsec_mine"}, "invalid_request", "secret"),
    ],
)
async def test_an_invalid_endpoint_is_refused(
    demo: httpx.AsyncClient, body: dict[str, Any], code: str, param: str
) -> None:
    error = (response := await demo.post(ENDPOINTS, json=body)).json()["error"]

    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"].startswith(param)


@pytest.mark.parametrize("seconds", [-1, 604_801, "1", 1.5])
async def test_an_old_secret_is_kept_for_a_week_at_most(demo: httpx.AsyncClient, endpoint: str, seconds: Any) -> None:
    response = await demo.post(f"{ENDPOINTS}/{endpoint}/rotate_secret", json={"keep_previous_seconds": seconds})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "keep_previous_seconds")


async def test_another_tenant_finds_nothing(gateway: GatewayFixture, other: httpx.AsyncClient, endpoint: str) -> None:
    delivery = gateway.webhooks.add(gateway.tenants["demo"], endpoint).delivery.id
    path = f"{ENDPOINTS}/{endpoint}"
    answers = [
        await other.get(path),
        await other.patch(path, json={"status": "disabled"}),
        await other.delete(path),
        await other.post(f"{path}/rotate_secret", json={}),
        await other.post(f"{path}/test"),
        await other.get(f"{DELIVERIES}/{delivery}"),
        await other.post(f"{DELIVERIES}/{delivery}/redeliver"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 7
    assert (await other.get(ENDPOINTS)).json()["data"] == (await other.get(DELIVERIES)).json()["data"] == []


async def test_a_key_and_the_role_of_a_member_are_needed(
    anonymous: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    assert [(await client.get(ENDPOINTS)).status_code for client in (anonymous, admin)] == [401, 403]
    assert [(await client.get(DELIVERIES)).status_code for client in (anonymous, admin)] == [401, 403]


def test_the_api_offers_the_events_that_exist() -> None:
    assert set(get_args(EventType)) == set(EVENT_TYPES)
