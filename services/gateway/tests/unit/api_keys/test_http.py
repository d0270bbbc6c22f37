"""`/admin/v1/keys`, and what all of `/admin/v1` has in common."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.gateway.tests.fakes.admin import a_key, created
from services.gateway.tests.fakes.gateway import GatewayFixture

ADMIN_ROUTES = [
    ("POST", "/admin/v1/tenants"),
    ("GET", "/admin/v1/tenants"),
    ("GET", "/admin/v1/tenants/ten_1"),
    ("PUT", "/admin/v1/tenants/ten_1/budget"),
    ("POST", "/admin/v1/projects"),
    ("GET", "/admin/v1/projects"),
    ("POST", "/admin/v1/keys"),
    ("GET", "/admin/v1/keys"),
    ("POST", "/admin/v1/keys/key_1/revoke"),
    ("GET", "/admin/v1/prices"),
    ("POST", "/admin/v1/prices"),
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/exposures"),
    ("GET", "/admin/v1/clamped-usage"),
    ("POST", "/admin/v1/exposures/req_1/reconcile"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_a_members_key_is_denied(demo: httpx.AsyncClient, method: str, path: str) -> None:
    response = await demo.request(method, path, json={})

    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")


async def test_a_new_tenant_project_and_key_work(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, name="server")

    assert key["key"].startswith("argosy_test_")
    assert (key["object"], key["name"], key["roles"]) == ("api_key", "server", ["member"])
    async with gateway.client(None) as client:
        bearer = {"authorization": f"Bearer {key['key']}"}
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200
        assert (await client.get("/admin/v1/tenants", headers=bearer)).status_code == 403


async def test_the_text_of_a_key_is_shown_once(admin: httpx.AsyncClient) -> None:
    key = await a_key(admin)

    listed = await admin.get("/admin/v1/keys", params={"tenant_id": key["tenant_id"]})

    assert [found["id"] for found in listed.json()["data"]] == [key["id"]]
    assert "key" not in listed.json()["data"][0]
    assert key["key"].split("_")[3] not in listed.text


async def test_a_revoked_key_is_refused_everywhere_and_its_record_stays(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    key = await a_key(admin)
    bearer = {"authorization": f"Bearer {key['key']}"}
    async with gateway.client(None) as client:
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200

        revoked = await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
        assert revoked.status_code == 200
        assert revoked.json()["revoked_at"] == 1767225600
        assert gateway.published_revocations == [key["id"]]

        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
            response = await client.request(method, path, headers=bearer)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "key_revoked")

    gateway.clock.advance(timedelta(minutes=1))
    again = await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
    assert again.json()["revoked_at"] == 1767225600  # the first instant stays


async def test_an_expired_key_is_rejected(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, expires_at="2026-01-01T01:00:00Z")
    bearer = {"authorization": f"Bearer {key['key']}"}
    async with gateway.client(None) as client:
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200
        gateway.clock.advance(timedelta(hours=1))
        response = await client.get("/v1/models", headers=bearer)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "key_expired")


async def test_a_new_admin_key_is_accepted(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, roles=["admin"])
    async with gateway.client(None) as client:
        response = await client.get("/admin/v1/tenants", headers={"authorization": f"Bearer {key['key']}"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tenants", {}, "name"),
        ("tenants", {"name": ""}, "name"),
        ("tenants", {"name": " \u00a0"}, "name"),
        ("tenants", {"name": 7}, "name"),
        ("tenants", {"name": "a\nb"}, "name"),
        ("tenants", {"name": "a", "colour": "red"}, "colour"),
        ("projects", {"name": "p"}, "tenant_id"),
        ("projects", {"tenant_id": "a b", "name": "p"}, "tenant_id"),
        ("keys", {"tenant_id": "ten_1"}, "project_id"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "roles": []}, "roles"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "roles": [7]}, "roles[0]"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "roles": ["king"]}, "roles"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "roles": ["service"]}, "roles"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "expires_at": "2025-01-01T00:00:00Z"}, "expires_at"),
        ("keys", {"tenant_id": "ten_1", "project_id": "prj_1", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        (
            "keys",
            {"tenant_id": "ten_1", "project_id": "prj_1", "expires_at": "9999-12-31T23:59:59-14:00"},
            "expires_at",
        ),
        ("prices", {"price_key": "local/m", "input_per_million_nano_usd": 1}, "output_per_million_nano_usd"),
    ],
)
async def test_invalid_input_is_refused_with_its_parameter(
    admin: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    response = await admin.post(f"/admin/v1/{path}", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param


async def test_names_are_unique(admin: httpx.AsyncClient) -> None:
    tenant = await created(admin, "tenants", name="acme")
    again = await admin.post("/admin/v1/tenants", json={"name": "acme"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "tenant_exists")

    await created(admin, "projects", tenant_id=tenant["id"], name="web")
    again = await admin.post("/admin/v1/projects", json={"tenant_id": tenant["id"], "name": "web"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "project_exists")


async def test_unknown_records_are_not_found(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    demo, other = gateway.tenants["demo"], gateway.tenants["other"]
    strange = (await admin.get("/admin/v1/projects", params={"tenant_id": other})).json()["data"][0]["id"]
    for response, code in (
        (await admin.get("/admin/v1/tenants/ten_none"), "tenant_not_found"),
        (await admin.get("/admin/v1/keys", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.get("/admin/v1/projects", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.get("/admin/v1/audit", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.post("/admin/v1/projects", json={"tenant_id": "ten_none", "name": "p"}), "tenant_not_found"),
        (await admin.post("/admin/v1/keys", json={"tenant_id": demo, "project_id": strange}), "project_not_found"),
        (await admin.post("/admin/v1/keys/key_none/revoke"), "key_not_found"),
        (await admin.put("/admin/v1/tenants/ten_none/budget", json={"cap_usd": "1"}), "tenant_not_found"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, code)
