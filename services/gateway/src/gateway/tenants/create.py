"""Create a tenant."""

from chassis.clock import Clock
from chassis.ids import new_id
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.audit.model import caller_entry
from gateway.audit.record import RecordRefusal
from gateway.tenants.model import Tenant, TenantStore


class CreateTenant:
    def __init__(self, tenants: TenantStore, record_refusal: RecordRefusal, clock: Clock) -> None:
        self._tenants = tenants
        self._record_refusal = record_refusal
        self._clock = clock

    async def __call__(self, caller: Caller, name: str, plan: str) -> Tenant:
        """Raises PermissionDenied, TenantExists."""
        caller.principal.require(PLATFORM_ADMIN)
        tenant = Tenant(new_id("ten_"), name, plan, self._clock.now())
        entry = caller_entry(
            caller, tenant.created_at, tenant.tenant_id, "tenant.create", tenant.tenant_id, name=name, plan=plan
        )
        async with self._record_refusal(entry):
            await self._tenants.add_tenant(tenant, entry)
        return tenant
