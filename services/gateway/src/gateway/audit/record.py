"""Record an administrative write that another service makes."""

from chassis.clock import Clock
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.audit.model import AuditLog, caller_entry


class RecordAudit:
    """Call it before the write, so that none is missing in the record."""

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def __call__(self, caller: Caller, tenant_id: str, action: str, target: str, **detail: str) -> None:
        """Raises PermissionDenied, TenantNotFound."""
        caller.principal.require(PLATFORM_ADMIN)
        await self._log.add_entry(caller_entry(caller, self._clock.now(), tenant_id, action, target, **detail))
