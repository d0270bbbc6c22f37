"""Tenants as the API shows them."""

from typing import Literal, Self

from gateway.tenants.model import DEFAULT_PLAN, Tenant
from gateway.web.schemas import Name, Resource, StrictBody, unix_seconds


class TenantCreate(StrictBody):
    name: Name
    plan: Name = DEFAULT_PLAN


class TenantRead(Resource):
    object: Literal["tenant"] = "tenant"
    name: str
    plan: str
    created_at: int

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        return cls(id=tenant.tenant_id, name=tenant.name, plan=tenant.plan, created_at=unix_seconds(tenant.created_at))
