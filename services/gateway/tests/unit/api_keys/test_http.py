"""`/admin/v1`."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.gateway.tests.fakes.world import World

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
]


async def made(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """Make something."""
    answer = await client.post(f"/admin/v1/{path}", json=fields)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def a_key(admin: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Make a tenant with a project and a key."""
    tenant = await made(admin, "tenants", name="acme")
    project = await made(admin, "projects", tenant_id=tenant["id"], name="web")
    return await made(admin, "keys", tenant_id=tenant["id"], project_id=project["id"], **fields)


async def trail(admin: httpx.AsyncClient, tenant_id: str) -> list[dict[str, Any]]:
    """What was done to a tenant, oldest first."""
    answer = await admin.get("/admin/v1/audit", params={"tenant_id": tenant_id, "limit": 100})
    entries: list[dict[str, Any]] = answer.json()["data"]
    return entries


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_a_tenants_key_does_not_administer(demo: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await demo.request(method, path, json={})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")


async def test_a_tenant_gets_a_project_and_a_key_that_opens(world: World, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, name="server")

    assert key["key"].startswith("argosy_test_")
    assert (key["object"], key["name"], key["roles"]) == ("api_key", "server", ["member"])
    async with world.client("nobody") as client:
        bearer = {"authorization": f"Bearer {key['key']}"}
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200
        assert (await client.get("/admin/v1/tenants", headers=bearer)).status_code == 403


async def test_the_text_of_a_key_is_shown_once(admin: httpx.AsyncClient) -> None:
    key = await a_key(admin)

    listed = await admin.get("/admin/v1/keys", params={"tenant_id": key["tenant_id"]})

    assert [found["id"] for found in listed.json()["data"]] == [key["id"]]
    assert "key" not in listed.json()["data"][0]
    assert key["key"].split("_")[3] not in listed.text


async def test_a_revoked_key_is_refused_everywhere_and_its_record_stays(world: World, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin)
    bearer = {"authorization": f"Bearer {key['key']}"}
    async with world.client("nobody") as client:
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200

        revoked = await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
        assert revoked.status_code == 200
        assert revoked.json()["revoked_at"] == 1767225600
        assert world.revocations.announced == [key["id"]]

        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
            answer = await client.request(method, path, headers=bearer)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_revoked")

    world.clock.advance(timedelta(minutes=1))
    again = await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
    assert again.json()["revoked_at"] == 1767225600  # the first instant stays


async def test_a_key_with_an_end_is_refused_after_it(world: World, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, expires_at="2026-01-01T01:00:00Z")
    bearer = {"authorization": f"Bearer {key['key']}"}
    async with world.client("nobody") as client:
        assert (await client.get("/v1/models", headers=bearer)).status_code == 200
        world.clock.advance(timedelta(hours=1))
        answer = await client.get("/v1/models", headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_expired")


async def test_an_admins_key_administers(world: World, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin, roles=["admin"])
    async with world.client("nobody") as client:
        answer = await client.get("/admin/v1/tenants", headers={"authorization": f"Bearer {key['key']}"})
    assert answer.status_code == 200


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
async def test_bad_input_is_refused_with_its_place(
    admin: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    answer = await admin.post(f"/admin/v1/{path}", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param


async def test_a_name_is_taken_once(admin: httpx.AsyncClient) -> None:
    tenant = await made(admin, "tenants", name="acme")
    again = await admin.post("/admin/v1/tenants", json={"name": "acme"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "tenant_exists")

    await made(admin, "projects", tenant_id=tenant["id"], name="web")
    again = await admin.post("/admin/v1/projects", json={"tenant_id": tenant["id"], "name": "web"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "project_exists")


async def test_what_belongs_to_nobody_is_not_found(world: World, admin: httpx.AsyncClient) -> None:
    demo, other = world.tenants["demo"], world.tenants["other"]
    strange = (await admin.get("/admin/v1/projects", params={"tenant_id": other})).json()["data"][0]["id"]
    for answer, code in (
        (await admin.get("/admin/v1/tenants/ten_none"), "tenant_not_found"),
        (await admin.get("/admin/v1/keys", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.get("/admin/v1/projects", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.get("/admin/v1/audit", params={"tenant_id": "ten_none"}), "tenant_not_found"),
        (await admin.post("/admin/v1/projects", json={"tenant_id": "ten_none", "name": "p"}), "tenant_not_found"),
        (await admin.post("/admin/v1/keys", json={"tenant_id": demo, "project_id": strange}), "project_not_found"),
        (await admin.post("/admin/v1/keys/key_none/revoke"), "key_not_found"),
        (await admin.put("/admin/v1/tenants/ten_none/budget", json={"cap_usd": "1"}), "tenant_not_found"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


async def test_tenants_are_listed_newest_first_page_by_page(world: World, admin: httpx.AsyncClient) -> None:
    first = (await admin.get("/admin/v1/tenants", params={"limit": 2})).json()
    rest = (await admin.get("/admin/v1/tenants", params={"after": first["last_id"]})).json()

    ids = [tenant["id"] for tenant in first["data"] + rest["data"]]
    assert ids == sorted(world.tenants.values(), reverse=True)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert (await admin.get(f"/admin/v1/tenants/{ids[0]}")).json()["id"] == ids[0]


async def test_a_budget_is_set(world: World, admin: httpx.AsyncClient, demo: httpx.AsyncClient) -> None:
    answer = await admin.put(f"/admin/v1/tenants/{world.tenants['demo']}/budget", json={"cap_usd": "12.500000001"})

    assert answer.json()["cap_usd"] == "12.500000001"
    (budget,) = (await demo.get("/v1/budgets")).json()["data"]
    assert budget["cap_usd"] == "12.500000001"


@pytest.mark.parametrize("cap", ["-1", "much", "0.0000000001", 5, None])
async def test_a_budget_that_is_no_amount_is_refused(world: World, admin: httpx.AsyncClient, cap: object) -> None:
    answer = await admin.put(f"/admin/v1/tenants/{world.tenants['demo']}/budget", json={"cap_usd": cap})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cap_usd")


async def test_a_price_is_put_in_force_and_an_explicit_zero_is_a_price(admin: httpx.AsyncClient) -> None:
    price = await made(
        admin,
        "prices",
        price_key="local/a/b",
        input_per_million_nano_usd=50_000_000,
        output_per_million_nano_usd=0,
    )

    assert (price["input_per_million_usd"], price["output_per_million_usd"]) == ("0.05", "0")
    listed = (await admin.get("/admin/v1/prices")).json()
    assert listed["data"] == [price]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"price_key": "nobody"}, "price_key"),
        ({"price_key": "a b/c"}, "price_key"),
        ({"input_per_million_nano_usd": -1}, "input_per_million_nano_usd"),
        ({"input_per_million_nano_usd": 1.5}, "input_per_million_nano_usd"),
        ({"input_per_million_nano_usd": "5"}, "input_per_million_nano_usd"),
        ({"output_per_million_nano_usd": 10**16}, "output_per_million_nano_usd"),
    ],
)
async def test_a_price_that_is_none_is_refused(admin: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    good = {"price_key": "local/m", "input_per_million_nano_usd": 1, "output_per_million_nano_usd": 1}
    answer = await admin.post("/admin/v1/prices", json=good | change)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_every_write_leaves_its_trail(world: World, admin: httpx.AsyncClient) -> None:
    key = await a_key(admin)
    await admin.post(f"/admin/v1/keys/{key['id']}/revoke")
    answer = await admin.put(f"/admin/v1/tenants/{key['tenant_id']}/budget", json={"cap_usd": "5"})
    await made(admin, "prices", price_key="local/m", input_per_million_nano_usd=1, output_per_million_nano_usd=2)

    entries = await trail(admin, key["tenant_id"])
    assert {entry["action"] for entry in entries} == {
        "tenant.create",
        "project.create",
        "key.create",
        "key.revoke",
        "budget.set",
    }
    (budget,) = (entry for entry in entries if entry["action"] == "budget.set")
    assert budget["detail"] == {"cap_usd": "5"}
    assert budget["actor_tenant_id"] == world.tenants["platform"]
    assert budget["actor_key_id"].startswith("key_")
    assert budget["request_id"] == answer.headers["x-request-id"]
    assert "price.set" in {entry["action"] for entry in await trail(admin, world.tenants["platform"])}
    assert key["key"] not in str(entries)


async def test_a_write_that_is_refused_leaves_no_trail(world: World, admin: httpx.AsyncClient) -> None:
    before = await trail(admin, world.tenants["platform"])
    await admin.post("/admin/v1/tenants", json={"name": "platform"})
    await admin.post("/admin/v1/prices", json={"price_key": "bad"})

    assert await trail(admin, world.tenants["platform"]) == before
