"""`/admin/v1/{tenants,projects,keys,audit}`: who may come in. Needs the role "admin"."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.domain.administration import MEMBER
from gateway.domain.keys import ApiKey
from gateway.domain.tenants import DEFAULT_PLAN, AuditEntry, Project, Tenant

from .ports import ADMINS_ONLY, NEWEST_FIRST, AdministrationPort, AnyPage, CurrentCaller, DirectoryPort, PathId, QueryId
from .schemas import Id, Identified, ListOf, Moment, Name

router = APIRouter(prefix="/admin/v1", tags=["Administration"], dependencies=[ADMINS_ONLY])


class TenantCreate(BaseModel):
    """A tenant to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    plan: Name = DEFAULT_PLAN


class TenantRead(Identified):
    """A customer of the installation."""

    object: Literal["tenant"] = "tenant"
    name: str
    plan: str
    created_at: int

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        """Show a tenant."""
        return cls(id=tenant.tenant_id, name=tenant.name, plan=tenant.plan, created_at=seconds(tenant.created_at))


class ProjectCreate(BaseModel):
    """A project to make."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: Id
    name: Name


class ProjectRead(Identified):
    """A part of a tenant that keys belong to."""

    object: Literal["project"] = "project"
    tenant_id: str
    name: str
    created_at: int

    @classmethod
    def of(cls, project: Project) -> Self:
        """Show a project."""
        return cls(
            id=project.project_id,
            tenant_id=project.tenant_id,
            name=project.name,
            created_at=seconds(project.created_at),
        )


class KeyCreate(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: Id
    project_id: Id
    name: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    roles: Annotated[list[str], Field(min_length=1, max_length=8)] = [MEMBER]
    expires_at: Moment | None = None


class KeyRead(Identified):
    """A key on record; its text is nowhere."""

    object: Literal["api_key"] = "api_key"
    tenant_id: str
    project_id: str
    name: str
    env: str
    roles: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Show a key."""
        return cls(**fields_of(key))


class KeyMinted(KeyRead):
    """A new key, with its text: shown this once."""

    key: str

    @classmethod
    def with_text(cls, key: ApiKey, text: str) -> Self:
        """Show a new key."""
        return cls(**fields_of(key), key=text)


class AuditRead(Identified):
    """One administrative write."""

    object: Literal["audit_entry"] = "audit_entry"
    tenant_id: str
    action: str
    target: str
    actor_tenant_id: str
    actor_key_id: str
    request_id: str
    detail: dict[str, str]
    created_at: int

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """Show an entry."""
        return cls(
            id=entry.entry_id,
            tenant_id=entry.tenant_id,
            action=entry.action,
            target=entry.target,
            actor_tenant_id=entry.actor_tenant_id,
            actor_key_id=entry.actor_key_id,
            request_id=entry.request_id,
            detail=dict(entry.detail),
            created_at=seconds(entry.created_at),
        )


OfTenant = Annotated[QueryId, Query(description="Whose.")]


@router.post("/tenants", status_code=201)
async def create_tenant(body: TenantCreate, caller: CurrentCaller, administration: AdministrationPort) -> TenantRead:
    """Make a tenant; its name is taken from then on."""
    return TenantRead.of(await administration.create_tenant(caller, body.name, body.plan))


@router.get("/tenants", dependencies=[NEWEST_FIRST])
async def list_tenants(directory: DirectoryPort, page: AnyPage) -> ListOf[TenantRead]:
    """List all tenants, newest first."""
    listed = await directory.list_tenants(page)
    return ListOf.of((TenantRead.of(tenant) for tenant in listed.items), has_more=listed.has_more)


@router.get("/tenants/{tenant_id}")
async def get_tenant(tenant_id: PathId, directory: DirectoryPort) -> TenantRead:
    """Read a tenant."""
    return TenantRead.of(await directory.get_tenant(tenant_id))


@router.post("/projects", status_code=201)
async def create_project(body: ProjectCreate, caller: CurrentCaller, administration: AdministrationPort) -> ProjectRead:
    """Make a project; its name is taken within the tenant from then on."""
    return ProjectRead.of(await administration.create_project(caller, body.tenant_id, body.name))


@router.get("/projects", dependencies=[NEWEST_FIRST])
async def list_projects(directory: DirectoryPort, tenant_id: OfTenant, page: AnyPage) -> ListOf[ProjectRead]:
    """List a tenant's projects, newest first."""
    listed = await directory.list_projects(tenant_id, page)
    return ListOf.of((ProjectRead.of(project) for project in listed.items), has_more=listed.has_more)


@router.post("/keys", status_code=201)
async def create_key(body: KeyCreate, caller: CurrentCaller, administration: AdministrationPort) -> KeyMinted:
    """Make a key. The answer holds its text; nobody can read it again."""
    key, text = await administration.create_key(
        caller, body.tenant_id, body.project_id, name=body.name, roles=body.roles, expires_at=body.expires_at
    )
    return KeyMinted.with_text(key, text)


@router.get("/keys", dependencies=[NEWEST_FIRST])
async def list_keys(directory: DirectoryPort, tenant_id: OfTenant, page: AnyPage) -> ListOf[KeyRead]:
    """List a tenant's keys, newest first, the revoked ones too."""
    listed = await directory.list_keys(tenant_id, page)
    return ListOf.of((KeyRead.of(key) for key in listed.items), has_more=listed.has_more)


@router.post("/keys/{key_id}/revoke")
async def revoke_key(key_id: PathId, caller: CurrentCaller, administration: AdministrationPort) -> KeyRead:
    """Revoke a key in the whole fleet, for good. Its record stays; safe to repeat."""
    return KeyRead.of(await administration.revoke_key(caller, key_id))


@router.get("/audit", dependencies=[NEWEST_FIRST])
async def list_audit(directory: DirectoryPort, tenant_id: OfTenant, page: AnyPage) -> ListOf[AuditRead]:
    """List what administrators did to a tenant, newest first."""
    listed = await directory.list_audit(tenant_id, page)
    return ListOf.of((AuditRead.of(entry) for entry in listed.items), has_more=listed.has_more)


def fields_of(key: ApiKey) -> dict[str, object]:
    """What is shown of a key."""
    return {
        "id": key.key_id,
        "tenant_id": key.tenant_id,
        "project_id": key.project_id,
        "name": key.name,
        "env": key.env,
        "roles": sorted(key.roles),
        "created_at": seconds(key.created_at),
        "expires_at": seconds(key.expires_at) if key.expires_at else None,
        "revoked_at": seconds(key.revoked_at) if key.revoked_at else None,
    }


def seconds(instant: datetime) -> int:
    """Seconds since 1970."""
    return int(instant.timestamp())
