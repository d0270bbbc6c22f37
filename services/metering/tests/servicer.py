"""The real servicer over stores in memory, and callers for it."""

from __future__ import annotations

from datetime import timedelta

from argosy.metering.v1 import metering_pb2
from chassis.clock import Clock
from chassis.testing import a_caller, a_principal
from metering.budgets.grpc import BudgetHandler
from metering.exposures.grpc import ExposureHandler
from metering.grpc import MeteringServicer
from metering.prices.grpc import PriceHandler
from metering.prices.model import PriceCache
from metering.reservations.grpc import ReservationHandler
from metering.settlement.grpc import StatementHandler
from metering.usage.grpc import UsageHandler
from values.money import NanoUsd

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import FakePriceBook, Stores

CHAT, EMBEDDING = a_price("local/chat", 1, 2), a_price("minilm/embed", 3, 0)
CAP = NanoUsd(1000)
MEMBER, ADMIN = a_caller(a_principal("ten_a")), a_caller(a_principal("ten_root", roles=["platform_admin"]))
SERVICE = a_caller(a_principal("ten_a", roles=["service"]))


def a_servicer(clock: Clock, stores: Stores) -> MeteringServicer:
    prices = PriceCache(FakePriceBook(clock, [CHAT, EMBEDDING]), clock, timedelta(seconds=5))
    return MeteringServicer(
        reservations=ReservationHandler(
            reservations=stores.reservations,
            hits=stores.hits,
            attempts=stores.attempts,
            prices=prices,
            default_lease=timedelta(minutes=10),
            max_lease=timedelta(hours=1),
            soft_limit_percent=80,
        ),
        statements=StatementHandler(stores.settlements),
        usage=UsageHandler(stores.usage),
        budgets=BudgetHandler(stores.budgets),
        prices=PriceHandler(prices, None),
        exposures=ExposureHandler(stores.exposures),
    )


def a_request(tokens: int = 100, request_id: str = "req_1", **more: object) -> metering_pb2.ReserveRequest:
    bounds = [metering_pb2.TokenBound(price_key="local/chat", input_tokens=tokens)]
    return metering_pb2.ReserveRequest(request_id=request_id, bounds=bounds, **more)  # type: ignore[arg-type]
