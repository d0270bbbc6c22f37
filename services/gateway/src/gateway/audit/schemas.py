"""Audit entries as the API shows them."""

from typing import Literal, Self

from gateway.audit.model import AuditEntry, Outcome
from gateway.web.schemas import Resource, unix_seconds


class AuditEntryRead(Resource):
    """A write and its outcome: done, refused for a `reason`, or unknown because no answer arrived."""

    object: Literal["audit_entry"] = "audit_entry"
    tenant_id: str
    action: str
    target: str
    actor_tenant_id: str
    actor_key_id: str
    request_id: str
    detail: dict[str, str]
    outcome: Outcome
    reason: str
    created_at: int

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls(
            id=entry.entry_id,
            tenant_id=entry.tenant_id,
            action=entry.action,
            target=entry.target,
            actor_tenant_id=entry.actor_tenant_id,
            actor_key_id=entry.actor_key_id,
            request_id=entry.request_id,
            detail=dict(entry.detail),
            outcome=entry.outcome,
            reason=entry.reason,
            created_at=unix_seconds(entry.created_at),
        )
