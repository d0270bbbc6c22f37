"""`/admin/v1/configuration`."""

import httpx
import pytest

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture

URL = "/admin/v1/configuration"
OBJECT = {"kind": "route", "tenant_id": "*", "name": "gpt", "before": None, "after": {"a": 1}}


async def test_changes_are_listed_by_what_they_change(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    response = await admin.get(f"{URL}/changes", params={"limit": 1, "before": 9, "kind": "route", "name": "gpt"})

    assert response.json() == {
        "object": "list",
        "data": [
            {**OBJECT, "object": "configuration.change", "version": 7, "author": "usr_1", "reason": "because"}
            | {"changed_at": 0}
        ],
        "has_more": True,
    }
    (asked,) = gateway.configuration.asked
    assert (asked.limit, asked.before_version, asked.scope.kind, asked.scope.name) == (1, 9, "route", "gpt")


@pytest.mark.parametrize(("until", "expected"), [({}, False), ({"until": 0}, True)])
async def test_two_versions_are_compared(
    gateway: GatewayFixture, admin: httpx.AsyncClient, until: dict[str, int], expected: bool
) -> None:
    response = await admin.get(f"{URL}/diff", params={"after": 3, **until})

    assert response.json() == {"object": "list", "data": [OBJECT]}
    (asked,) = gateway.configuration.asked
    assert (asked.from_version, asked.HasField("to_version")) == (3, expected)


async def test_a_rollback_is_audited_and_says_what_it_restored(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    response = await admin.post(f"{URL}/rollback", json={"reason": "an incident", "version": 3, "dry_run": True})

    assert response.json() == {
        "object": "configuration.rollback",
        "version": 8,
        "restored": [OBJECT],
        "kept": [],
    }
    (asked,) = gateway.configuration.asked
    assert (asked.to_version, asked.reason, asked.dry_run) == (3, "an incident", True)
    actions = [row["action"] for row in await audit_trail(admin, gateway.tenants["platform"])]
    assert "configuration.rollback" in actions


async def test_a_rollback_needs_a_reason_and_members_may_not(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    response = await admin.post(f"{URL}/rollback", json={"version": 3})
    async with gateway.client("demo") as member:
        refused = await member.get(f"{URL}/changes")

    assert (response.status_code, response.json()["error"]["param"]) == (400, "reason")
    assert refused.status_code == 403
    assert not gateway.configuration.asked
