import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from metering.budgets.model import CapBelowSpend
from metering.grpc import MeteringServicer

from services.metering.tests.servicer import ADMIN, CAP, MEMBER, a_request


async def test_an_admin_sets_the_cap_of_any_tenant(servicer: MeteringServicer) -> None:
    request = metering_pb2.SetBudgetRequest(tenant_id="ten_a", cap=common_pb2.Money(nano_usd=5))
    with as_caller(ADMIN):
        assert (await servicer.SetBudget(request, None)).budget.cap.nano_usd == 5
    with as_caller(MEMBER):
        assert (await servicer.GetBudget(metering_pb2.GetBudgetRequest(), None)).budget.cap.nano_usd == 5
    with as_caller(a_caller(a_principal("ten_b"))):
        assert (await servicer.GetBudget(metering_pb2.GetBudgetRequest(), None)).budget.cap.nano_usd == CAP


async def test_a_missing_cap_is_refused_and_an_explicit_zero_is_a_cap(servicer: MeteringServicer) -> None:
    with as_caller(ADMIN):
        with pytest.raises(InvalidRequest) as refused:
            await servicer.SetBudget(metering_pb2.SetBudgetRequest(tenant_id="ten_a"), None)
        zero = metering_pb2.SetBudgetRequest(tenant_id="ten_b", cap=common_pb2.Money(nano_usd=0))
        assert (await servicer.SetBudget(zero, None)).budget.cap.nano_usd == 0

    assert refused.value.param == "cap"
    with as_caller(MEMBER):
        assert (await servicer.GetBudget(metering_pb2.GetBudgetRequest(), None)).budget.cap.nano_usd == CAP


async def test_a_cap_is_neither_negative_nor_below_what_is_spent_and_held(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(100), None)
    with as_caller(ADMIN):
        with pytest.raises(InvalidRequest):
            await servicer.SetBudget(
                metering_pb2.SetBudgetRequest(tenant_id="ten_a", cap=common_pb2.Money(nano_usd=-1)), None
            )
        with pytest.raises(CapBelowSpend):
            await servicer.SetBudget(
                metering_pb2.SetBudgetRequest(tenant_id="ten_a", cap=common_pb2.Money(nano_usd=99)), None
            )
