"""`/admin/v1/exposures` and `/admin/v1/clamped-usage`."""

from typing import Any

import httpx
import pytest
from argosy.metering.v1 import metering_pb2 as pb

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.metering import a_clamped_settlement, an_exposure


@pytest.fixture
def tenant(gateway: GatewayFixture) -> str:
    """A tenant with two open exposures and a call with clamped usage."""
    tenant_id = gateway.tenants["demo"]
    rows = [
        pb.RequestSettlement(tenant_id=tenant_id, request_id=f"req_{number}", settlement=an_exposure())
        for number in (1, 2)
    ]
    gateway.metering.settlements = {
        pb.SETTLEMENT_FILTER_OPEN_EXPOSURE: rows,
        pb.SETTLEMENT_FILTER_USAGE_CLAMPED: [
            pb.RequestSettlement(tenant_id=tenant_id, request_id="req_3", settlement=a_clamped_settlement())
        ],
    }
    return tenant_id


async def test_open_exposures_are_listed_with_their_cause(
    gateway: GatewayFixture, admin: httpx.AsyncClient, tenant: str
) -> None:
    params: dict[str, Any] = {"tenant_id": tenant, "limit": 1, "after": "req_9:2"}
    body = (await admin.get("/admin/v1/exposures", params=params)).json()

    assert (body["has_more"], body["last_id"]) == (True, "req_1:1")
    (row,) = body["data"]
    assert (row["tenant_id"], row["request_id"]) == (tenant, "req_1")
    assert row["settlement"]["exposure_cause"] == "client"
    assert (row["settlement"]["exposed_usd"], row["settlement"]["counted_usd"]) == ("0.0000009", "0.0000009")
    assert row["settlement"]["reconciliation"] is None
    (page,) = gateway.metering.pages
    assert (page.after_request_id, page.after_attempt) == ("req_9", 2)


async def test_clamped_usage_is_listed_with_what_was_reported(admin: httpx.AsyncClient, tenant: str) -> None:
    body = (await admin.get("/admin/v1/clamped-usage", params={"tenant_id": tenant})).json()

    (row,) = body["data"]
    assert row["settlement"]["usage_clamped"] is True
    assert row["settlement"]["usage"]["output_tokens"] == 100
    assert row["settlement"]["reported_usage"]["output_tokens"] == 10**9


async def test_an_exposure_is_billed_and_the_decision_is_in_the_audit(admin: httpx.AsyncClient, tenant: str) -> None:
    body = {"tenant_id": tenant, "attempt": 1, "decision": "billed", "billed_usd": "0.0000005", "note": "invoice 7"}
    response = await admin.post("/admin/v1/exposures/req_1/reconcile", json=body)

    assert response.status_code == 200, response.text
    reconciliation = response.json()["settlement"]["reconciliation"]
    assert (reconciliation["decision"], reconciliation["billed_usd"]) == ("billed", "0.0000005")
    (entry,) = [row for row in await audit_trail(admin, tenant) if row["action"] == "exposure.reconcile"]
    assert entry["target"] == "req_1:1"
    assert entry["detail"] == {"decision": "billed", "billed_usd": "0.0000005", "note": "invoice 7"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"decision": "forgiven"}, "decision"),
        ({"decision": "written_off", "billed_usd": "1"}, "billed_usd"),
        ({"billed_usd": "-1"}, "billed_usd"),
        ({"attempt": -1}, "attempt"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"note": "x" * 600}, "note"),
        ({"other": 1}, "other"),
    ],
)
async def test_an_invalid_decision_is_refused(
    admin: httpx.AsyncClient, tenant: str, change: dict[str, Any], param: str
) -> None:
    body = {"tenant_id": tenant, "attempt": 1, "decision": "billed"} | change
    response = await admin.post("/admin/v1/exposures/req_1/reconcile", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_an_exposure_that_does_not_exist_is_not_found(admin: httpx.AsyncClient, tenant: str) -> None:
    body = {"tenant_id": tenant, "attempt": 7, "decision": "written_off"}
    response = await admin.post("/admin/v1/exposures/req_1/reconcile", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "exposure_not_found")


async def test_only_an_admin_sees_or_decides(demo: httpx.AsyncClient, tenant: str) -> None:
    body = {"tenant_id": tenant, "attempt": 1, "decision": "written_off"}
    answers = [
        await demo.get("/admin/v1/exposures", params={"tenant_id": tenant}),
        await demo.get("/admin/v1/clamped-usage", params={"tenant_id": tenant}),
        await demo.post("/admin/v1/exposures/req_1/reconcile", json=body),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
