"""`/admin/v1/audit`."""

import httpx
import pytest
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable

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


async def test_a_body_that_is_not_valid_leaves_no_audit_entry(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    before = await audit_trail(admin, gateway.tenants["platform"])
    await admin.post("/admin/v1/tenants", json={"name": ""})
    await admin.post("/admin/v1/prices", json={"price_key": "bad"})

    assert await audit_trail(admin, gateway.tenants["platform"]) == before


async def refused(admin: httpx.AsyncClient, tenant_id: str) -> list[tuple[str, str, dict[str, str]]]:
    """The action, reason and detail of refused writes, oldest first."""
    entries = [entry for entry in await audit_trail(admin, tenant_id) if entry["outcome"] == "refused"]
    return [(entry["action"], entry["reason"], entry["detail"]) for entry in reversed(entries)]


async def test_a_write_that_the_database_refuses_is_audited_with_its_reason(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    demo = gateway.tenants["demo"]
    project = {"tenant_id": demo, "name": "twice"}
    await created(admin, "projects", **project)
    key = {"tenant_id": demo, "project_id": "prj_missing", "name": "k", "roles": ["member"]}

    assert (await admin.post("/admin/v1/projects", json=project)).status_code == 409
    assert (await admin.post("/admin/v1/keys", json=key)).status_code == 404

    roles = {"project_id": "prj_missing", "roles": "member"}
    assert await refused(admin, demo) == [
        ("project.create", "project_exists", {"name": "twice"}),
        ("key.create", "project_not_found", roles),
    ]


async def test_a_refused_write_to_a_tenant_that_does_not_exist_is_audited_with_its_actor(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    platform = gateway.tenants["platform"]
    await admin.post("/admin/v1/tenants", json={"name": "demo"})
    await admin.post("/admin/v1/projects", json={"tenant_id": "ten_missing", "name": "p"})
    await admin.post("/admin/v1/keys/key_missing/revoke")

    tenant, project, key = await refused(admin, platform)
    assert (tenant[:2], tenant[2]["name"]) == (("tenant.create", "tenant_exists"), "demo")
    assert project == ("project.create", "tenant_not_found", {"name": "p", "tenant_id": "ten_missing"})
    assert key == ("key.revoke", "key_not_found", {})


async def test_a_grant_beyond_the_creators_own_roles_is_audited(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    demo = gateway.tenants["demo"]
    project = await created(admin, "projects", tenant_id=demo, name="p")
    key = {"tenant_id": demo, "project_id": project["id"], "name": "k", "roles": ["platform_admin"]}

    assert (await admin.post("/admin/v1/keys", json=key)).status_code == 403
    assert [entry[:2] for entry in await refused(admin, demo)] == [("key.create", "permission_denied")]


async def test_a_write_that_may_have_been_made_is_not_audited_as_refused(
    gateway: GatewayFixture, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> None:
        raise Unavailable("the database of gateway does not answer")

    monkeypatch.setattr(gateway.identity, "add_project", down)

    assert (
        await admin.post("/admin/v1/projects", json={"tenant_id": gateway.tenants["demo"], "name": "p"})
    ).status_code == 503
    assert await refused(admin, gateway.tenants["demo"]) == []


CAP_BELOW_SPEND = RemoteError(Kind.CONFLICT, "CAP_BELOW_SPEND", "More is spent and held.")
DENIED = RemoteError(Kind.DENIED, "PERMISSION_DENIED", "This needs another role.")
PRICE = {"price_key": "local/m", "input_per_million_nano_usd": 1, "output_per_million_nano_usd": 2}


@pytest.mark.parametrize("action", ["budget.set", "price.set"])
@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (None, ("done", "")),
        (CAP_BELOW_SPEND, ("refused", "cap_below_spend")),
        (DENIED, ("refused", "permission_denied")),
        (Unavailable("metering does not answer"), ("unknown", "service_unavailable")),
        (RemoteError(Kind.TIMED_OUT, "DEADLINE_EXCEEDED", "too slow"), ("unknown", "deadline_exceeded")),
        (RemoteError(Kind.INTERNAL, "INTERNAL", "a bug"), ("unknown", "internal")),
    ],
)
async def test_an_entry_says_what_became_of_a_write_in_another_service(
    gateway: GatewayFixture,
    admin: httpx.AsyncClient,
    failure: ArgosyError | None,
    outcome: tuple[str, str],
    action: str,
) -> None:
    gateway.metering.refuse_writes_with = failure
    platform = gateway.tenants["platform"]
    if action == "budget.set":
        response = await admin.put(f"/admin/v1/tenants/{platform}/budget", json={"cap_usd": "0"})
    else:
        response = await admin.post("/admin/v1/prices", json=PRICE)

    assert response.is_success is (failure is None)
    (entry,) = (entry for entry in await audit_trail(admin, platform) if entry["action"] == action)
    assert (entry["outcome"], entry["reason"]) == outcome


async def test_every_audited_write_in_another_service_begins_as_unknown(
    gateway: GatewayFixture, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this process dies between the write and its outcome."""

    async def never(*_: object) -> None:
        return

    monkeypatch.setattr(gateway.identity, "set_outcome", never)
    platform = gateway.tenants["platform"]
    await admin.put(f"/admin/v1/tenants/{platform}/budget", json={"cap_usd": "5"})
    await admin.post("/admin/v1/prices", json=PRICE)

    outcomes = {entry["action"]: entry["outcome"] for entry in await audit_trail(admin, platform)}
    assert (outcomes["budget.set"], outcomes["price.set"], outcomes["key.create"]) == ("unknown", "unknown", "done")
