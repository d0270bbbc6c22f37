"""`/admin/v1/tenants`."""

import httpx

from services.gateway.tests.fakes.gateway import GatewayFixture


async def test_tenants_are_listed_newest_first_page_by_page(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    first = (await admin.get("/admin/v1/tenants", params={"limit": 2})).json()
    rest = (await admin.get("/admin/v1/tenants", params={"after": first["last_id"]})).json()

    ids = [tenant["id"] for tenant in first["data"] + rest["data"]]
    assert ids == sorted(gateway.tenants.values(), reverse=True)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert (await admin.get(f"/admin/v1/tenants/{ids[0]}")).json()["id"] == ids[0]
