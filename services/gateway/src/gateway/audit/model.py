"""The record of administrative writes: who changed what."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from chassis.ids import new_id
from chassis.tenancy import Caller

from gateway.web.pagination import Page, PageRequest

Outcome = Literal["done", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One write to one object of one tenant, and what became of it: `reason` is the code of the error that refused it.

    The actor is empty for the bootstrap command.
    """

    tenant_id: str
    entry_id: str
    action: str
    target: str
    actor_tenant_id: str
    actor_key_id: str
    request_id: str
    detail: Mapping[str, str]
    created_at: datetime
    outcome: Outcome = "done"
    reason: str = ""


def caller_entry(caller: Caller, now: datetime, tenant_id: str, action: str, target: str, **detail: str) -> AuditEntry:
    return AuditEntry(
        tenant_id=tenant_id,
        entry_id=new_id("evt_"),
        action=action,
        target=target,
        actor_tenant_id=caller.principal.tenant_id,
        actor_key_id=caller.principal.key_id,
        request_id=caller.request_id,
        detail=detail,
        created_at=now,
    )


def bootstrap_entry(now: datetime, tenant_id: str, action: str, target: str) -> AuditEntry:
    return AuditEntry(tenant_id, new_id("evt_"), action, target, "", "", "", {"by": "bootstrap"}, now)


class AuditLog(Protocol):
    """Keeps entries. Those of writes to the schema identity are added by the stores, in the write's transaction.
    Those of refused ones
       are added after it (`RecordRefusal`).
    """

    async def add_entry(self, entry: AuditEntry) -> None:
        """Add an entry for a write in another service. Raises TenantNotFound."""
        ...

    async def add_refusal(self, entry: AuditEntry) -> None:
        """Add an entry for a refused write to the schema identity. Never raises: the caller gets the refusal.

        If the tenant that was to be changed does not exist, the entry belongs to the actor's, with that id as a detail.
        """
        ...

    async def set_outcome(self, entry: AuditEntry) -> None:
        """Write the outcome of an entry that was `unknown`. Never raises: an entry that cannot be written stays so."""
        ...

    async def list_entries(self, tenant_id: str, page: PageRequest) -> Page[AuditEntry]:
        """Raises TenantNotFound."""
        ...


def as_entry_of_actor(entry: AuditEntry) -> AuditEntry:
    """Return the entry for the tenant of its actor, because the one that was to be changed does not exist."""
    return replace(entry, tenant_id=entry.actor_tenant_id, detail={**entry.detail, "tenant_id": entry.tenant_id})
