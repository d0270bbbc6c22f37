"""`/v1/budgets` and `/admin/v1/tenants/{id}/budget`."""

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture


async def test_the_budget_of_the_tenant_is_shown(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    (budget,) = (await demo.get("/v1/budgets")).json()["data"]

    assert budget == {
        "object": "budget",
        "tenant_id": gateway.tenants["demo"],
        "cap_usd": "100",
        "spent_usd": "0.000000025",
        "held_usd": "0",
        "exposed_usd": "0",
    }


async def test_an_admin_sets_a_budget(
    gateway: GatewayFixture, admin: httpx.AsyncClient, demo: httpx.AsyncClient
) -> None:
    response = await admin.put(f"/admin/v1/tenants/{gateway.tenants['demo']}/budget", json={"cap_usd": "12.500000001"})

    assert response.json()["cap_usd"] == "12.500000001"
    (budget,) = (await demo.get("/v1/budgets")).json()["data"]
    assert budget["cap_usd"] == "12.500000001"


@pytest.mark.parametrize("cap", ["-1", "much", "0.0000000001", 5, None])
async def test_an_invalid_budget_is_refused(gateway: GatewayFixture, admin: httpx.AsyncClient, cap: object) -> None:
    response = await admin.put(f"/admin/v1/tenants/{gateway.tenants['demo']}/budget", json={"cap_usd": cap})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "cap_usd")
