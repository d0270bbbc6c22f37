import pytest
from argosy.metering.v1 import metering_pb2
from chassis.errors import PermissionDenied
from chassis.tenancy import PrincipalInvalid, as_caller
from metering.grpc import MeteringServicer

from services.metering.tests.servicer import MEMBER, a_request


async def test_a_call_without_a_principal_is_refused(servicer: MeteringServicer) -> None:
    with pytest.raises(PrincipalInvalid):
        await servicer.Reserve(a_request(), None)
    with pytest.raises(PrincipalInvalid):
        await servicer.GetBudget(metering_pb2.GetBudgetRequest(), None)


async def test_only_an_admin_changes_budgets_and_prices(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        with pytest.raises(PermissionDenied):
            await servicer.SetBudget(metering_pb2.SetBudgetRequest(tenant_id="ten_a"), None)
        with pytest.raises(PermissionDenied):
            await servicer.SetPrice(metering_pb2.SetPriceRequest(), None)
