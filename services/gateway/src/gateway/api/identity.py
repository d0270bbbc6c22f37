"""The gateway's gRPC face: who is calling, for people and for the other services."""

from typing import Any

from argosy.identity.v1 import identity_pb2 as pb
from argosy.identity.v1.identity_pb2_grpc import IdentityServiceServicer, add_IdentityServiceServicer_to_server
from chassis.grpc import Registration, timestamp_to_proto
from chassis.tenancy import Principal, current_caller

from gateway.domain.tenants import Directory, Tenant


class IdentityServicer(IdentityServiceServicer):
    """`argosy.identity.v1.IdentityService`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:
        """Say who the caller is."""
        return pb.WhoAmIResponse(principal=to_proto_principal(current_caller().principal))

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.GetTenantResponse:
        """Read the caller's tenant. Raises TenantNotFound."""
        tenant = await self._directory.get_tenant(current_caller().principal.tenant_id)
        return pb.GetTenantResponse(tenant=to_proto_tenant(tenant))


def registration(servicer: IdentityServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return add_IdentityServiceServicer_to_server, servicer, "argosy.identity.v1.IdentityService"


def to_proto_principal(principal: Principal) -> pb.Principal:
    """Write a principal."""
    return pb.Principal(
        tenant_id=principal.tenant_id,
        project_id=principal.project_id,
        key_id=principal.key_id,
        user_id=principal.user_id,
        roles=sorted(principal.roles),
        plan=principal.plan,
    )


def to_proto_tenant(tenant: Tenant) -> pb.Tenant:
    """Write a tenant."""
    return pb.Tenant(
        tenant_id=tenant.tenant_id, name=tenant.name, plan=tenant.plan, created_at=timestamp_to_proto(tenant.created_at)
    )
