"""`/admin/v1/flags`, and the switches of files and vector stores."""

from typing import Any

import httpx
import pytest
from chassis.errors import Kind, RemoteError, Unavailable

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture

KEY = "/admin/v1/flags/feature.chat"
OFF = {"reason": "an incident", "default_variant": "off"}


async def test_a_flag_is_put_read_listed_and_in_the_audit(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    rules = [{"variant": "off", "tenants": [gateway.tenants["demo"]], "plans": ["free"], "percentage": 12.34}]

    put = await admin.put(KEY, json={"reason": "a test", "rules": rules, "description": "Chats."})

    assert put.status_code == 200, put.text
    flag = put.json()
    assert flag["rules"] == [{**rules[0], "models": [], "upstreams": []}]
    expected = {"object": "flag", "key": "feature.chat", "version": 1, "type": "boolean", "killed": False}
    assert expected.items() <= flag.items()
    assert (flag["variants"], flag["default_variant"], flag["enabled"]) == ({"on": True, "off": False}, "on", True)
    assert (await admin.get(KEY)).json() == flag
    assert (await admin.get("/admin/v1/flags")).json() == {"object": "list", "data": [flag]}
    (entry,) = [row for row in await audit_trail(admin, gateway.tenants["platform"]) if row["action"] == "flag.put"]
    assert (entry["target"], entry["outcome"], entry["detail"]) == ("feature.chat", "done", {"reason": "a test"})


async def test_a_flag_is_killed_restored_rolled_back_and_deleted(admin: httpx.AsyncClient) -> None:
    reason = {"reason": "an incident"}
    await admin.put(KEY, json=OFF)

    killed = await admin.post(f"{KEY}/kill", json=reason)
    restored = await admin.post(f"{KEY}/restore", json=reason)
    back = await admin.post(f"{KEY}/rollback", json={**reason, "version": 2})
    deleted = await admin.delete(KEY, params=reason)
    versions = (await admin.get(f"{KEY}/versions", params={"limit": 2})).json()

    assert [one.json()["killed"] for one in (killed, restored, back)] == [True, False, True]
    assert deleted.status_code == 204
    assert (await admin.get(KEY)).json()["error"]["code"] == "flag_not_found"
    assert versions["has_more"]
    newest, before = versions["data"]
    assert (newest["version"], newest["after"], newest["reason"]) == (5, None, "an incident")
    assert newest["before"] == before["after"]
    assert before["after"]["killed"]


async def test_the_key_of_a_model_with_slashes_is_one_flag(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    response = await admin.put("/admin/v1/flags/model.meta/llama-3", json=OFF)
    killed = await admin.post("/admin/v1/flags/model.meta/llama-3/kill", json={"reason": "an incident"})

    assert (response.status_code, killed.json()["key"]) == (200, "model.meta/llama-3")
    assert list(gateway.flags.flags) == ["model.meta/llama-3"]


async def test_a_put_of_an_older_version_is_a_conflict(admin: httpx.AsyncClient) -> None:
    await admin.put(KEY, json=OFF)

    response = await admin.put(KEY, json=OFF | {"version": 0})

    assert (response.status_code, response.json()["error"]["code"]) == (409, "flag_version_conflict")


@pytest.mark.parametrize(
    ("key", "body", "param"),
    [
        ("feature.chat", {"default_variant": "off"}, "reason"),
        ("feature.chat", {"reason": ""}, "reason"),
        ("feature.chat", OFF | {"rulez": []}, "rulez"),
        ("feature.chat", OFF | {"rules": [{"variant": "off", "percentage": 101}]}, "rules[0].percentage"),
        ("feature.chat", OFF | {"type": "number"}, "type"),
        ("chat", OFF, "key"),
    ],
)
async def test_a_bad_flag_is_refused_with_the_name_of_the_field(
    gateway: GatewayFixture, admin: httpx.AsyncClient, key: str, body: dict[str, Any], param: str
) -> None:
    response = await admin.put(f"/admin/v1/flags/{key}", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not gateway.flags.flags


async def test_a_rule_for_an_unknown_tenant_is_refused(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    response = await admin.put(KEY, json=OFF | {"rules": [{"variant": "off", "tenants": ["ten_nobody"]}]})

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "tenant_not_found", "rules[0].tenants")
    assert not gateway.flags.flags


async def test_a_dry_run_uses_the_tenants_plan(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    body = {"tenant_id": gateway.tenants["demo"], "model": "smollm2", "keys": ["feature.chat"]}

    response = await admin.post("/admin/v1/flags/evaluate", json=body)

    (request,) = gateway.flags.evaluated
    assert (request.tenant_id, request.plan, list(request.keys)) == (body["tenant_id"], "standard", ["feature.chat"])
    assert [(one["key"], one["variant"], one["value"], one["reason"]) for one in response.json()["data"]] == [
        ("app.a", None, {"a": [1]}, "DISABLED"),
        ("feature.chat", "off", False, "KILLED"),
    ]


async def test_a_dry_run_for_an_unknown_tenant_is_not_found(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/admin/v1/flags/evaluate", json={"tenant_id": "ten_nobody"})

    assert response.json()["error"]["code"] == "tenant_not_found"


async def test_a_tenants_key_cannot_read_or_change_flags(demo: httpx.AsyncClient) -> None:
    for response in (await demo.get("/admin/v1/flags"), await demo.post(f"{KEY}/kill", json={"reason": "mine"})):
        assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")


async def test_a_request_without_a_key_is_unauthenticated(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/admin/v1/flags")).status_code == 401


@pytest.mark.parametrize(("path", "feature"), [("/v1/files", "files"), ("/v1/vector_stores", "vector_stores")])
async def test_a_feature_of_retrieval_that_is_off_is_refused_and_the_others_go_on(
    gateway: GatewayFixture, demo: httpx.AsyncClient, path: str, feature: str
) -> None:
    gateway.flags.off.add(feature)

    response = await demo.get(path)

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "feature_disabled"
    assert response.json()["error"]["param"] == f"feature.{feature}"
    other = {"/v1/files", "/v1/vector_stores"} - {path}
    assert (await demo.get(other.pop())).status_code == 200


@pytest.mark.parametrize("failure", [Unavailable("it is down"), RemoteError(Kind.INTERNAL, "INTERNAL", "a bug")])
async def test_files_go_on_while_the_orchestrator_is_down(
    gateway: GatewayFixture, demo: httpx.AsyncClient, failure: Any
) -> None:
    gateway.flags.failure = failure

    assert (await demo.get("/v1/files")).status_code == 200
