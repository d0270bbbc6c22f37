"""Calls of the admin API that several tests need."""

from typing import Any

import httpx


async def created(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """Create a resource."""
    response = await client.post(f"/admin/v1/{path}", json=fields)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def a_key(admin: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Create a tenant with a project and a key."""
    tenant = await created(admin, "tenants", name="acme")
    project = await created(admin, "projects", tenant_id=tenant["id"], name="web")
    return await created(admin, "keys", tenant_id=tenant["id"], project_id=project["id"], **fields)


async def audit_trail(admin: httpx.AsyncClient, tenant_id: str) -> list[dict[str, Any]]:
    """The audit entries of a tenant."""
    response = await admin.get("/admin/v1/audit", params={"tenant_id": tenant_id, "limit": 100})
    entries: list[dict[str, Any]] = response.json()["data"]
    return entries
