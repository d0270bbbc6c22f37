import pytest
from argosy.metering.v1 import metering_pb2
from chassis.errors import PermissionDenied
from chassis.tenancy import PrincipalInvalid, as_caller
from chassis.testing import a_caller, a_principal
from metering.grpc import MeteringServicer

from services.metering.tests.servicer import MEMBER, a_request

METHODS = metering_pb2.DESCRIPTOR.services_by_name["MeteringService"].methods_by_name


async def test_a_call_without_a_principal_is_refused(servicer: MeteringServicer) -> None:
    with pytest.raises(PrincipalInvalid):
        await servicer.Reserve(a_request(), None)
    with pytest.raises(PrincipalInvalid):
        await servicer.GetBudget(metering_pb2.GetBudgetRequest(), None)


@pytest.mark.parametrize("method", [name for name in METHODS if name in vars(MeteringServicer)])
async def test_every_method_refuses_a_caller_without_its_role(servicer: MeteringServicer, method: str) -> None:
    request = getattr(metering_pb2, f"{method}Request")()
    # Prices are no tenant's: administrators and members read them.
    roles = {
        "SetBudget": "member",
        "SetPrice": "member",
        "ListSettlements": "member",
        "ReconcileExposure": "member",
        "ListPrices": "guest",
        "ListPriceVersions": "member",
    }
    caller = a_caller(a_principal(roles=[roles.get(method, "platform_admin")]))
    with as_caller(caller), pytest.raises(PermissionDenied):
        await getattr(servicer, method)(request, None)


async def test_only_an_admin_changes_budgets_and_prices(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        with pytest.raises(PermissionDenied):
            await servicer.SetBudget(metering_pb2.SetBudgetRequest(tenant_id="ten_a"), None)
        with pytest.raises(PermissionDenied):
            await servicer.SetPrice(metering_pb2.SetPriceRequest(), None)
