"""Purges of the response cache."""

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture


async def test_a_tenant_purges_its_own_answers(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    responses = [await demo.delete("/v1/cache"), await demo.delete("/v1/cache", params={"route": "smollm2"})]

    assert [response.status_code for response in responses] == [204, 204]
    assert gateway.response_cache.purged == [("", ""), ("", "smollm2")]


async def test_an_admin_purges_the_answers_of_a_tenant_or_of_all(gateway: GatewayFixture) -> None:
    demo = gateway.tenants["demo"]
    async with gateway.client("platform") as admin:
        for params in ({"tenant": demo}, {"tenant": "*", "route": "gpt"}, {"tenant": demo, "route": "gpt"}):
            assert (await admin.delete("/admin/v1/cache", params=params)).status_code == 204
        refused = await admin.delete("/admin/v1/cache", params={"route": "gpt"})

    assert gateway.response_cache.purged == [(demo, ""), ("*", "gpt"), (demo, "gpt")]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tenant")


@pytest.mark.parametrize("tenant", ["ten_1", "*"])
async def test_a_member_cannot_purge_for_others(gateway: GatewayFixture, demo: httpx.AsyncClient, tenant: str) -> None:
    response = await demo.delete("/admin/v1/cache", params={"tenant": tenant, "route": "gpt"})

    assert response.status_code == 403
    assert gateway.response_cache.purged == []


async def test_an_older_orchestrator_is_unavailable_for_purges(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.response_cache.is_older = True

    response = await demo.delete("/v1/cache")

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
