"""The gateway's gRPC face."""

import pytest
from argosy.identity.v1 import identity_pb2 as pb
from argosy.identity.v1.identity_pb2_grpc import IdentityServiceStub
from chassis.errors import RemoteError
from chassis.grpc import proto_to_timestamp
from chassis.tenancy import Caller, as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from gateway.api.identity import IdentityServicer, registration

from services.gateway.tests.contract import a_tenant, an_entry
from services.gateway.tests.fakes.directory import FakeDirectory


async def test_a_caller_is_told_who_it_is() -> None:
    me = a_principal("ten_me", user_id="usr_1", roles={"member", "admin"}, plan="standard")
    async with serving(registration(IdentityServicer(FakeDirectory()))) as channel:
        with as_caller(a_caller(me)):
            said = (await IdentityServiceStub(channel).WhoAmI(pb.WhoAmIRequest())).principal

    assert (said.tenant_id, said.project_id, said.key_id, said.user_id) == ("ten_me", "prj_test", "key_test", "usr_1")
    assert (list(said.roles), said.plan) == (["admin", "member"], "standard")


async def test_a_caller_reads_its_own_tenant() -> None:
    directory, tenant = FakeDirectory(), a_tenant("acme")
    await directory.add_tenant(tenant, an_entry(tenant))
    async with serving(registration(IdentityServicer(directory))) as channel:
        stub = IdentityServiceStub(channel)
        with as_caller(a_caller(a_principal(tenant.tenant_id))):
            said = (await stub.GetTenant(pb.GetTenantRequest())).tenant
        assert (said.tenant_id, said.name, said.plan) == (tenant.tenant_id, "acme", "standard")
        assert proto_to_timestamp(said.created_at) == tenant.created_at

        with as_caller(a_caller(a_principal("ten_none"))), pytest.raises(RemoteError) as caught:
            await stub.GetTenant(pb.GetTenantRequest())
        assert caught.value.reason == "TENANT_NOT_FOUND"


async def test_nobody_and_a_forger_are_refused() -> None:
    async with serving(registration(IdentityServicer(FakeDirectory()))) as channel:
        stub = IdentityServiceStub(channel)
        with pytest.raises(RemoteError) as caught:
            await stub.WhoAmI(pb.WhoAmIRequest())
        assert caught.value.reason == "PRINCIPAL_INVALID"
        forged = Caller(a_principal(), "forged", "req_1")
        with as_caller(forged), pytest.raises(RemoteError) as caught:
            await stub.WhoAmI(pb.WhoAmIRequest())
        assert caught.value.reason == "PRINCIPAL_INVALID"
