"""`ReserveHits`: what cached answers cost, many at once, for services."""

from typing import Any

import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest, PermissionDenied
from chassis.tenancy import as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from google.protobuf.duration_pb2 import Duration
from metering.budgets.model import Budget
from metering.grpc import MeteringServicer
from metering.settlement.model import RequestStatement

from services.metering.tests.fakes import Stores, fake_stores
from services.metering.tests.servicer import CAP, CHAT, EMBEDDING, MEMBER, a_servicer

ORCHESTRATOR = a_caller(a_principal("orchestrator", roles=["service"]))


def a_cost(tenant_id: str = "ten_a", key: str = "local/chat", tokens: int = 101, **more: Any) -> metering_pb2.HitCost:
    usage = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=tokens, output_tokens=0)
    fields = {"discount_percent": 50, "outcome": common_pb2.CACHE_OUTCOME_SEMANTIC, "usage": usage, **more}
    return metering_pb2.HitCost(tenant_id=tenant_id, price_key=key, **fields)


def a_hit(request_id: str, answer: int = 0, **more: str) -> metering_pb2.HitReservation:
    return metering_pb2.HitReservation(request_id=request_id, answer=answer, **more)


async def reserve(
    servicer: MeteringServicer,
    costs: list[metering_pb2.HitCost],
    hits: list[metering_pb2.HitReservation],
    lease: Duration | None = None,
) -> metering_pb2.ReserveHitsResponse:
    with as_caller(ORCHESTRATOR):
        request = metering_pb2.ReserveHitsRequest(answers=costs, hits=hits, lease=lease)
        response: metering_pb2.ReserveHitsResponse = await servicer.ReserveHits(request, None)
        return response


async def statement(stores: Stores, tenant_id: str, request_id: str) -> RequestStatement:
    return await stores.settlements.statement(tenant_id, request_id)


async def test_hits_of_several_tenants_are_held_at_their_discounted_prices(
    servicer: MeteringServicer, stores: Stores
) -> None:
    costs = [a_cost(), a_cost("ten_b", "minilm/embed", 10, discount_percent=0)]
    response = await reserve(servicer, costs, [a_hit("req_1"), a_hit("req_2", 1), a_hit("req_3", key_id="key_1")])

    assert [one.price.version for one in response.answers] == [f"{CHAT.price.version}~50", EMBEDDING.price.version]
    assert not response.refused
    held = [(await stores.budgets.read(tenant)).held for tenant in ("ten_a", "ten_b")]
    assert held == [2 * 51, 30]
    reservation = (await statement(stores, "ten_a", "req_3")).reservation
    (attempt,) = reservation.attempts
    assert (attempt.number, attempt.bound, attempt.cache) == (1, 0, "semantic")
    assert attempt.usage is not None
    assert attempt.usage.known == (101, 0)


async def test_only_the_hits_without_a_price_or_money_are_refused(servicer: MeteringServicer, stores: Stores) -> None:
    costs = [a_cost(tokens=int(CAP) // 2, discount_percent=0), a_cost(key="new/model")]
    hits = [a_hit("req_1", 1), a_hit("req_2"), a_hit("req_3"), a_hit("req_4")]
    response = await reserve(servicer, costs, hits)

    refused = {one.hit: one.error.reason for one in response.refused}
    assert refused == {0: "UNPRICED_MODEL", 3: "INSUFFICIENT_QUOTA"}
    assert await stores.budgets.read("ten_a") == Budget(CAP, held=CAP)
    assert not response.answers[1].HasField("price")


async def test_without_any_price_no_budget_is_read(servicer: MeteringServicer, stores: Stores) -> None:
    response = await reserve(servicer, [a_cost(key="new/model")], [a_hit("req_1"), a_hit("req_2")])
    assert [one.hit for one in response.refused] == [0, 1]
    assert (await stores.budgets.read("ten_a")).held == 0


async def test_the_soft_limit_is_said_of_each_tenant(servicer: MeteringServicer, stores: Stores) -> None:
    await stores.budgets.set_cap("ten_a", Budget(CAP).cap)
    costs = [a_cost(tokens=800, discount_percent=0), a_cost("ten_b")]
    response = await reserve(servicer, costs, [a_hit("req_1"), a_hit("req_1", 1)])
    assert [one.soft_limit_passed for one in response.answers] == [True, False]


async def test_members_cannot_reserve_for_other_tenants(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER), pytest.raises(PermissionDenied):
        await servicer.ReserveHits(metering_pb2.ReserveHitsRequest(answers=[a_cost()], hits=[a_hit("req_1")]), None)


UNKNOWN = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=1)
HUGE = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=10**9 + 1, output_tokens=0)


@pytest.mark.parametrize(
    ("cost", "hits", "lease", "param"),
    [
        (a_cost(), [], None, "hits"),
        (a_cost(), [a_hit(f"req_{number}") for number in range(1_001)], None, "hits"),
        (a_cost(), [a_hit("req_1")], Duration(seconds=0), "lease"),
        (a_cost(), [a_hit("req_1")], Duration(seconds=3_601), "lease"),
        (a_cost(), [a_hit("req_1")], Duration(seconds=2**62), "lease"),
        (a_cost(), [a_hit("")], None, "hits.request_id"),
        (a_cost(), [a_hit("a\0b")], None, "hits.request_id"),
        (a_cost(), [a_hit("req_1", 1)], None, "hits.answer"),
        (a_cost(), [a_hit("req_1", -1)], None, "hits.answer"),
        (a_cost(), [a_hit("req_1", key_id="\0")], None, "hits"),
        (a_cost("*"), [a_hit("req_1")], None, "answers.tenant_id"),
        (a_cost(""), [a_hit("req_1")], None, "answers.tenant_id"),
        (a_cost(key="nothing"), [a_hit("req_1")], None, "answers.price_key"),
        (a_cost(usage=UNKNOWN), [a_hit("req_1")], None, "answers.usage"),
        (a_cost(usage=HUGE), [a_hit("req_1")], None, "answers.usage"),
        (a_cost(discount_percent=100), [a_hit("req_1")], None, "answers.discount_percent"),
        (a_cost(discount_percent=-1), [a_hit("req_1")], None, "answers.discount_percent"),
    ],
)
async def test_what_postgres_or_the_rules_would_refuse_is_refused_before(
    cost: metering_pb2.HitCost, hits: list[metering_pb2.HitReservation], lease: Duration | None, param: str
) -> None:
    stores = fake_stores(FakeClock(), CAP)
    with pytest.raises(InvalidRequest) as refused:
        await reserve(a_servicer(FakeClock(), stores), [cost], hits, lease)
    assert refused.value.param == param
    assert (await stores.budgets.read("ten_a")).held == 0
