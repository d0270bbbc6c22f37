"""`/admin/v1/audit`."""

import httpx

from services.gateway.tests.fakes.admin import a_key, audit_trail, created
from services.gateway.tests.fakes.gateway import GatewayFixture


async def test_every_write_leaves_an_audit_entry(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin)
    await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
    response = await admin.put(f"/admin/v1/tenants/{key['tenant_id']}/budget", json={"cap_usd": "5"})
    await created(admin, "prices", price_key="local/m", input_per_million_nano_usd=1, output_per_million_nano_usd=2)

    entries = await audit_trail(admin, key["tenant_id"])
    assert {entry["action"] for entry in entries} == {
        "tenant.create",
        "project.create",
        "key.create",
        "key.revoke",
        "budget.set",
    }
    (budget,) = (entry for entry in entries if entry["action"] == "budget.set")
    assert budget["detail"] == {"cap_usd": "5"}
    assert budget["actor_tenant_id"] == gateway.tenants["platform"]
    assert budget["actor_key_id"].startswith("key_")
    assert budget["request_id"] == response.headers["x-request-id"]
    assert "price.set" in {entry["action"] for entry in await audit_trail(admin, gateway.tenants["platform"])}
    assert key["key"] not in str(entries)


async def test_a_refused_write_leaves_no_audit_entry(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    before = await audit_trail(admin, gateway.tenants["platform"])
    await admin.post("/admin/v1/tenants", json={"name": "platform"})
    await admin.post("/admin/v1/prices", json={"price_key": "bad"})

    assert await audit_trail(admin, gateway.tenants["platform"]) == before
