import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from metering.grpc import MeteringServicer
from metering.reservations.model import RequestNotFound

from services.metering.tests.examples import UNKNOWN, a_reservation, an_event, as_easy, reported
from services.metering.tests.fakes import Stores
from services.metering.tests.servicer import CHAT, EMBEDDING, MEMBER, a_request


async def test_the_statement_of_a_request_has_all_of_it(servicer: MeteringServicer, stores: Stores) -> None:
    priced = a_reservation("ten_a", CHAT, 100)
    await stores.reservations.reserve(priced)
    await stores.settlements.settle([an_event(priced, reported(60), UNKNOWN)])
    with as_caller(MEMBER):
        statement = await servicer.GetRequestStatement(
            metering_pb2.GetRequestStatementRequest(request_id=priced.request.request_id), None
        )

    assert statement.reservation.state == metering_pb2.RESERVATION_STATE_SETTLED
    assert statement.reservation.held.nano_usd == 100
    billed, exposed = statement.settlements
    assert (billed.attempt, billed.outcome, billed.cost.nano_usd) == (1, metering_pb2.SETTLEMENT_OUTCOME_BILLED, 60)
    assert (billed.usage.input_tokens, billed.usage.HasField("output_tokens")) == (60, True)
    assert (exposed.outcome, exposed.usage.HasField("input_tokens")) == (metering_pb2.SETTLEMENT_OUTCOME_EXPOSED, False)
    assert exposed.usage.source == common_pb2.USAGE_SOURCE_UNKNOWN
    assert [(entry.account, entry.amount.nano_usd) for entry in statement.entries] == [
        ("receivable", 60),
        ("revenue", -60),
        ("exposure", 100),
        ("suspense", -100),
    ]


async def test_the_statement_says_what_a_call_of_a_cheap_candidate_is_compared_with(
    servicer: MeteringServicer, stores: Stores
) -> None:
    priced = a_reservation("ten_a", CHAT, 100)
    await stores.reservations.reserve(priced)
    await stores.settlements.settle([as_easy(an_event(priced, reported(60), reported(20)), EMBEDDING)])
    request = metering_pb2.GetRequestStatementRequest(request_id=priced.request.request_id)
    with as_caller(MEMBER):
        easy, other = (await servicer.GetRequestStatement(request, None)).settlements

    assert easy.right_sizing == metering_pb2.RightSized(
        price_key=EMBEDDING.price.key, price_version=EMBEDDING.price.version, saved=common_pb2.Money(nano_usd=100 - 60)
    )
    assert not other.HasField("right_sizing")


async def test_a_request_of_another_tenant_is_not_found(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(), None)
    with as_caller(a_caller(a_principal("ten_b"))), pytest.raises(RequestNotFound):
        await servicer.GetRequestStatement(metering_pb2.GetRequestStatementRequest(request_id="req_1"), None)
