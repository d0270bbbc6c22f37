"""Builds metering from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NoReturn

from chassis.aio import periodic
from chassis.clock import SystemClock
from chassis.grpc import GrpcServer
from chassis.kafka import Consumer
from chassis.lifecycle import Check, Component, Loop, Service, command_line
from chassis.postgres import Database
from chassis.redis import Redis
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalVerifier
from values.money import NanoUsd

from metering.budgets.grpc import BudgetHandler
from metering.budgets.postgres import PostgresBudgetStore
from metering.grpc import MeteringServicer, registration
from metering.ledger.postgres import PostgresLedgerAudit
from metering.ledger.schedule import Auditor
from metering.prices.cache import PriceCache
from metering.prices.grpc import PriceHandler
from metering.prices.postgres import PostgresPriceBook
from metering.prices.redis import RedisPriceChanges
from metering.prices.set_price import PriceChangePublisher
from metering.reservations.grpc import ReservationHandler
from metering.reservations.postgres import PostgresReservationStore
from metering.reservations.schedule import Sweeper
from metering.settings import PriceChangesSection, Settings
from metering.settlement.consumer import TOPIC, UsageConsumer
from metering.settlement.grpc import StatementHandler
from metering.settlement.postgres import PostgresSettlementStore
from metering.usage.grpc import UsageHandler
from metering.usage.postgres import PostgresUsageStore

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open the clients and yield the components; the server comes last, so it is the first to stop."""
    clock = SystemClock()
    verifier = PrincipalVerifier([secret.get_secret_value() for secret in settings.principal.secrets], clock)
    default_cap = NanoUsd(settings.budgets.default_cap_nano_usd)
    async with Database(settings.postgres, "metering") as database, AsyncExitStack() as clients:
        prices = PriceCache(PostgresPriceBook(database), clock, settings.prices_ttl)
        publisher, subscriptions = await subscribe_to_price_changes(settings.redis, prices, clients)
        settlements = PostgresSettlementStore(database, default_cap)
        servicer = MeteringServicer(
            reservations=ReservationHandler(
                reservations=PostgresReservationStore(database, default_cap, settings.reservations.max_batch),
                prices=prices,
                default_lease=settings.reservations.default_lease,
                max_lease=settings.reservations.max_lease,
                soft_limit_percent=settings.budgets.soft_limit_percent,
            ),
            statements=StatementHandler(settlements),
            usage=UsageHandler(PostgresUsageStore(database)),
            budgets=BudgetHandler(PostgresBudgetStore(database, default_cap)),
            prices=PriceHandler(prices, publisher),
        )
        sweeper = Sweeper(settlements, settings.sweeper.max_batch)
        auditor = Auditor(PostgresLedgerAudit(database))
        yield [
            Check("postgres", database.ping),
            Consumer(
                settings.kafka.bootstrap,
                settings.kafka.group,
                TOPIC,
                handle_many=UsageConsumer(settlements=settlements, prices=prices, clock=clock).settle,
                max_records=settings.settlement.max_batch,
                fetch_max_wait=settings.settlement.fetch_max_wait,
            ),
            *subscriptions,
            Loop("sweeper", periodic(settings.sweeper.interval, sweeper.run_once, "sweeper")),
            Loop("auditor", periodic(settings.audit_interval, auditor.run_once, "auditor")),
            GrpcServer(settings.grpc.bind, [registration(servicer)], verifier, clock),
        ]


async def subscribe_to_price_changes(
    section: PriceChangesSection | None, prices: PriceCache, clients: AsyncExitStack
) -> tuple[PriceChangePublisher | None, Sequence[Component]]:
    """Without Redis, replicas see each other's prices after the TTL of their caches."""
    if section is None:
        return None, ()
    changes = RedisPriceChanges(await clients.enter_async_context(Redis(section)), prices.invalidate)
    return changes, (changes.subscription(),)


def main() -> NoReturn:
    command_line(
        Service(
            name="metering",
            settings=Settings,
            build=build,
            schema="metering",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            description="Money: prices, budgets, reservations, ledger, usage.",
        )
    )
