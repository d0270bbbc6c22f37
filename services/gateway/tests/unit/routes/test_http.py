"""`/admin/v1/routes`."""

from typing import Any

import httpx
import orjson
import pytest

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture

URL = "/admin/v1/routes/meta/llama-4"
ROUTE = {"candidates": [{"upstream": "a", "model": "meta/llama-4", "weight": 3}], "strategy": "weighted"}
PUT = {"reason": "a trial", **ROUTE}


async def test_a_route_whose_name_has_a_slash_is_put_read_listed_and_deleted(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    put = await admin.put(URL, json={**PUT, "version": 0})

    assert put.status_code == 200, put.text
    route = put.json()
    assert (route["model"], route["tenant_id"], route["version"]) == ("meta/llama-4", "*", 1)
    assert (await admin.get(URL)).json() == route
    assert (await admin.get("/admin/v1/routes", params={"tenant_id": "*"})).json()["data"] == [route]
    # Only what was set: the rest has its default in the orchestrator.
    assert gateway.routes.documents() == [ROUTE]
    assert gateway.routes.put[0].expected_version == 0
    assert (await admin.delete(URL, params={"reason": "a trial"})).status_code == 204
    assert (await admin.get(URL)).json()["error"]["code"] == "route_not_found"
    actions = {row["action"] for row in await audit_trail(admin, gateway.tenants["platform"])}
    assert {"route.put", "route.delete"} <= actions


async def test_a_route_of_a_tenant_is_its_own(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    tenant = gateway.tenants["demo"]

    put = await admin.put(URL, json={**PUT, "tenant_id": tenant, "candidates": []})
    unknown = await admin.put(URL, json={**PUT, "tenant_id": "ten_nobody"})

    assert put.json()["tenant_id"] == tenant
    assert (await admin.get(URL)).status_code == 404
    assert (await admin.get(URL, params={"tenant_id": tenant})).status_code == 200
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "tenant_not_found")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"reason": ""}, "reason"),
        ({"candidates": None}, "candidates"),
        ({"strategy": "luckiest"}, "strategy"),
        ({"speed": 1}, "speed"),
        ({"candidates": [{"upstream": "a/b", "model": "1"}]}, "candidates[0].upstream"),
        ({"candidates": [{"upstream": "a", "model": "1", "weight": -1}]}, "candidates[0].weight"),
        (
            {"candidates": [{"upstream": "a", "model": "1", "conditions": {"countries": ["de"]}}]},
            "candidates[0].conditions",
        ),
        ({"right_sizing": {"cheap": []}}, "right_sizing.cheap"),
        ({"cache": {"threshold": 0}}, "cache.threshold"),
    ],
)
async def test_bad_input_is_named(admin: httpx.AsyncClient, changes: dict[str, Any], param: str) -> None:
    response = await admin.put(URL, json={**PUT, **changes})

    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)


async def test_a_dry_run_has_the_tenants_plan_and_says_why(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    request = {
        "tenant_id": gateway.tenants["demo"],
        "model": "gpt",
        "body": body,
        "route": ROUTE,
        "request_id": "req_1",
    }

    response = await admin.post("/admin/v1/routes/resolve", json=request)

    assert response.status_code == 200, response.text
    assert response.json() == {
        "object": "route.resolution",
        "model": "gpt",
        "tenant_id": "*",
        "task": "chat",
        "candidates": [
            {"upstream": "a", "model": "1", "role": "primary", "position": 1}
            | {"code": "ordered", "reason": "in order", "priced": True},
            {"upstream": "b", "model": "1", "role": "primary", "position": None}
            | {"code": "tools", "reason": "it takes no tools", "priced": False},
        ],
        "flags": {"upstream.b": "on"},
    }
    (resolved,) = gateway.routes.resolved
    assert (resolved.plan, orjson.loads(resolved.body), orjson.loads(resolved.document)) == ("standard", body, ROUTE)
    unknown = await admin.post("/admin/v1/routes/resolve", json={"tenant_id": "ten_nobody", "model": "gpt"})
    assert unknown.json()["error"]["code"] == "tenant_not_found"


async def test_versions_and_rollbacks_are_those_of_the_route(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    listed = await admin.get(f"{URL}/versions", params={"limit": 3})
    rolled_back = await admin.post(f"{URL}/rollback", json={"reason": "an incident", "version": 3})

    assert (listed.status_code, rolled_back.status_code) == (200, 200)
    first, second = gateway.configuration.asked
    for scope in (first.scope, second.scope):
        assert (scope.kind, scope.tenant_id, scope.name) == ("route", "*", "meta/llama-4")
    assert (first.limit, second.to_version) == (3, 3)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", "/gpt"), ("DELETE", "/gpt"), ("POST", "/resolve")])
async def test_a_member_may_do_nothing_here(gateway: GatewayFixture, method: str, path: str) -> None:
    async with gateway.client("demo") as member:
        response = await member.request(method, f"/admin/v1/routes{path}", json=PUT)

    assert response.status_code == 403
    assert not gateway.routes.put
