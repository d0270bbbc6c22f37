"""Rows of the schema identity, from and to the domain."""

import json
from typing import Any

from gateway.domain.keys import ApiKey
from gateway.domain.tenants import AuditEntry, Project, Tenant


def from_tenant_row(row: Any) -> Tenant:
    """Read a row of `tenants`."""
    return Tenant(row["tenant_id"], row["name"], row["plan"], row["created_at"])


def from_project_row(row: Any) -> Project:
    """Read a row of `projects`."""
    return Project(row["tenant_id"], row["project_id"], row["name"], row["created_at"])


def from_key_row(row: Any) -> ApiKey:
    """Read a row of `api_keys` joined with its tenant's plan."""
    return ApiKey(
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        key_id=row["key_id"],
        name=row["name"],
        env=row["env"],
        roles=frozenset(row["roles"]),
        created_at=row["created_at"],
        sha256=row["sha256"],
        plan=row["plan"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def to_key_row(key: ApiKey) -> tuple[object, ...]:
    """Write the columns of `api_keys`, in the order of its INSERT."""
    return (
        key.tenant_id,
        key.key_id,
        key.project_id,
        key.name,
        key.env,
        key.sha256,
        sorted(key.roles),
        key.created_at,
        key.expires_at,
        key.revoked_at,
    )


def from_audit_row(row: Any) -> AuditEntry:
    """Read a row of `audit`."""
    return AuditEntry(
        tenant_id=row["tenant_id"],
        entry_id=row["entry_id"],
        action=row["action"],
        target=row["target"],
        actor_tenant_id=row["actor_tenant_id"],
        actor_key_id=row["actor_key_id"],
        request_id=row["request_id"],
        detail=json.loads(row["detail"]),
        created_at=row["created_at"],
    )


def to_audit_row(entry: AuditEntry) -> tuple[object, ...]:
    """Write the columns of `audit`, in the order of its INSERT."""
    return (
        entry.tenant_id,
        entry.entry_id,
        entry.action,
        entry.target,
        entry.actor_tenant_id,
        entry.actor_key_id,
        entry.request_id,
        json.dumps(dict(entry.detail)),
        entry.created_at,
    )
