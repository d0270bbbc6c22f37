"""Metering, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.grpc import GrpcServer
from chassis.kafka import Consumer
from chassis.lifecycle import Check, Component, Loop, Service, command_line
from chassis.postgres import Database
from chassis.redis import Redis
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalVerifier

from metering.adapters.budgets import PostgresBudgets
from metering.adapters.ledger import PostgresLedger
from metering.adapters.prices import PostgresPriceBook
from metering.adapters.redis import RedisPriceNews
from metering.adapters.reservations import PostgresReservations
from metering.adapters.usage import PostgresUsageReports
from metering.api.events import TOPIC, UsageEvents
from metering.api.servicer import MeteringServicer, ReservePolicy, registration
from metering.api.timers import Auditor, Sweeper, every
from metering.domain.money import NanoUsd
from metering.domain.prices import NoNews, PriceNews, Prices
from metering.settings import NewsSection, Settings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open the database and yield what runs; the server comes last, so it is the first to stop."""
    clock = SystemClock()
    verifier = PrincipalVerifier([secret.get_secret_value() for secret in settings.principal.secrets], clock)
    default_cap = NanoUsd(settings.budgets.default_cap_nano_usd)
    async with Database(settings.postgres, "metering") as database, AsyncExitStack() as clients:
        prices = Prices(PostgresPriceBook(database), clock, settings.prices_ttl)
        news, listening = await hear_of_prices(settings.redis, prices, clients)
        ledger = PostgresLedger(database, default_cap)
        servicer = MeteringServicer(
            prices=prices,
            news=news,
            budgets=PostgresBudgets(database, default_cap),
            reservations=PostgresReservations(database, default_cap, settings.reservations.max_batch),
            ledger=ledger,
            reports=PostgresUsageReports(database),
            policy=ReservePolicy(
                settings.reservations.default_lease,
                settings.reservations.max_lease,
                settings.budgets.soft_limit_percent,
            ),
        )
        sweeper, auditor = Sweeper(ledger, settings.sweeper.batch), Auditor(ledger)
        yield [
            Check("postgres", database.ping),
            Consumer(
                settings.kafka.bootstrap,
                settings.kafka.group,
                TOPIC,
                handle_many=UsageEvents(ledger=ledger, prices=prices, clock=clock).settle,
                max_records=settings.settlement.max_batch,
                fetch_max_wait=settings.settlement.gather,
            ),
            *listening,
            Loop("sweeper", every(settings.sweeper.period, sweeper.sweep, "sweeper")),
            Loop("auditor", every(settings.audit_period, auditor.audit, "auditor")),
            GrpcServer(
                settings.grpc.bind,
                [registration(servicer)],
                verifier,
                clock,
            ),
        ]


async def hear_of_prices(
    section: NewsSection | None, prices: Prices, clients: AsyncExitStack
) -> tuple[PriceNews, Sequence[Component]]:
    """Where new prices are announced, and what has to run to hear of them."""
    if section is None:
        return NoNews(), ()
    news = RedisPriceNews(await clients.enter_async_context(Redis(section)), prices.forget)
    return news, (news.listen(),)


def main() -> NoReturn:
    """Run the command line."""
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
