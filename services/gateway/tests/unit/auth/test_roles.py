"""Roles: platform administration and membership of a tenant are separate, and every operation needs one of them."""

from typing import Any

import httpx
import pytest
from chassis.errors import PermissionDenied
from chassis.testing import a_principal
from gateway.auth.roles import RouteNotFound, check_grant, role_of_route

from services.gateway.tests.fakes.gateway import GatewayFixture

CODE = "permission_denied"


async def operations(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Method and template of every operation in the OpenAPI document."""
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


async def test_every_operation_has_a_role(anonymous: httpx.AsyncClient) -> None:
    found = await operations(anonymous)

    assert len(found) > 25
    for _, path in found:
        assert role_of_route(path) == ("platform_admin" if path.startswith("/admin/") else "member"), path


async def test_every_operation_refuses_a_key_without_its_role(
    demo: httpx.AsyncClient, admin: httpx.AsyncClient, gateway: GatewayFixture
) -> None:
    for method, template in await operations(demo):
        client = demo if template.startswith("/admin/") else admin
        response = await client.request(method, template.replace("{", "").replace("}", ""), json={})
        assert (response.status_code, response.json()["error"]["code"]) == (403, CODE), (method, template)
    assert gateway.inference.requests == []
    assert gateway.retrieval.tenants == {}


@pytest.mark.parametrize("path", ["/metrics", "/docs/oauth2-redirect", "/admin", "/admin/v1x/tenants", "/v10/models"])
async def test_a_path_without_a_rule_does_not_exist(admin: httpx.AsyncClient, path: str) -> None:
    with pytest.raises(RouteNotFound):
        role_of_route(path)
    assert (await admin.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("creator", "tenant", "roles"),
    [
        ({"member"}, "ten_own", {"member"}),
        ({"member"}, "ten_own", {"platform_admin"}),
        ({"service"}, "ten_own", {"member"}),
        ({"platform_admin"}, "ten_own", {"service"}),
        ({"platform_admin"}, "ten_other", {"platform_admin"}),
        ({"platform_admin"}, "ten_other", {"member", "platform_admin"}),
    ],
)
def test_no_key_can_do_more_than_its_creator(creator: set[str], tenant: str, roles: set[str]) -> None:
    with pytest.raises(PermissionDenied):
        check_grant(a_principal("ten_own", roles=creator), tenant, roles)


@pytest.mark.parametrize(("tenant", "role"), [("ten_other", "member"), ("ten_own", "platform_admin")])
def test_administrators_grant_membership_anywhere_and_administration_at_home(tenant: str, role: str) -> None:
    check_grant(a_principal("ten_own", roles={"platform_admin"}), tenant, {role})
