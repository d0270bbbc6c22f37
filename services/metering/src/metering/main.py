"""Builds metering from its settings."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from chassis.aio import periodic
from chassis.kafka import DEAD_LETTERS, Consumer, OutboxRelay, replay_dead_letters
from chassis.lifecycle import Component, Loop, Service, ServiceBuilder, command_line, with_builder
from values.money import NanoUsd

from metering.budgets.grpc import BudgetHandler
from metering.budgets.outbox import BUDGET_LIMIT_REACHED, PostgresBudgetNotices
from metering.budgets.postgres import PostgresBudgetStore
from metering.exposures.grpc import ExposureHandler
from metering.exposures.postgres import PostgresExposureStore
from metering.grpc import MeteringServicer, registration
from metering.ledger.postgres import PostgresLedgerAudit
from metering.ledger.schedule import Auditor
from metering.metrics import AUDIT_AGE_SECONDS
from metering.prices.grpc import PriceHandler
from metering.prices.model import PriceCache
from metering.prices.postgres import PostgresPriceBook
from metering.prices.redis import RedisPriceChanges
from metering.prices.set_price import PriceChangePublisher
from metering.reservations.grpc import ReservationHandler
from metering.reservations.orchestrator_client import OrchestratorRequestStates
from metering.reservations.postgres import PostgresReservationStore
from metering.reservations.schedule import Sweeper
from metering.settings import PriceChangesSection, Settings
from metering.settlement.consumer import HITS_TOPIC, TOPIC, UsageConsumer
from metering.settlement.grpc import StatementHandler
from metering.settlement.kafka import KafkaUsageEvents
from metering.settlement.postgres import PostgresSettlementStore
from metering.settlement.schedule import Expiry
from metering.usage.grpc import UsageHandler
from metering.usage.postgres import PostgresUsageStore

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_HIT_RECORDS = 10
"""Of many hits each: as many as one transaction should have."""
NOTICES_INTERVAL = timedelta(seconds=1)


async def build(settings: Settings, builder: ServiceBuilder) -> list[Component]:
    """Open the clients and wire the features."""
    database = await builder.database(settings.postgres, MIGRATIONS)
    prices = PriceCache(PostgresPriceBook(database), builder.clock, settings.prices_ttl)
    publisher, subscriptions = await subscribe_to_price_changes(settings.redis, prices, builder)
    default_cap = NanoUsd(settings.budgets.default_cap_nano_usd)
    settlements = PostgresSettlementStore(database, default_cap, settings.exposure.counted_causes)
    reservations = PostgresReservationStore(
        database, default_cap, settings.reservations.max_batch, settings.budgets.soft_limit_percent
    )
    relay = OutboxRelay(database, await builder.publisher(settings.kafka))
    notices = PostgresBudgetNotices(database, on_written=relay.wake)
    servicer = MeteringServicer(
        reservations=ReservationHandler(
            reservations=reservations,
            hits=reservations,
            attempts=reservations,
            prices=prices,
            default_lease=settings.reservations.default_lease,
            max_lease=settings.reservations.max_lease,
            soft_limit_percent=settings.budgets.soft_limit_percent,
        ),
        statements=StatementHandler(settlements),
        usage=UsageHandler(PostgresUsageStore(database)),
        budgets=BudgetHandler(PostgresBudgetStore(database, default_cap)),
        prices=PriceHandler(prices, publisher),
        exposures=ExposureHandler(PostgresExposureStore(database, default_cap)),
    )
    sweeper = build_sweeper(settings, builder, reservations, settlements)
    auditor = Auditor(PostgresLedgerAudit(database), builder.clock)
    AUDIT_AGE_SECONDS.set_function(lambda: auditor.age_seconds)
    usage = UsageConsumer(settlements=settlements, prices=prices, clock=builder.clock)
    topics = (TOPIC, f"{TOPIC}{DEAD_LETTERS}", HITS_TOPIC, f"{HITS_TOPIC}{DEAD_LETTERS}")
    return [
        Consumer(
            settings.kafka,
            TOPIC,
            handle_many=usage.settle,
            max_records=settings.settlement.max_batch,
            fetch_max_wait=settings.settlement.fetch_max_wait,
        ),
        Consumer(
            settings.kafka,
            HITS_TOPIC,
            handle_many=usage.settle_hits,
            max_records=MAX_HIT_RECORDS,
            fetch_max_wait=settings.settlement.fetch_max_wait,
        ),
        builder.topics(settings.kafka, *topics, BUDGET_LIMIT_REACHED),
        relay,
        Loop("budget-notices", periodic(NOTICES_INTERVAL, notices.publish, "budget-notices")),
        *subscriptions,
        Loop("sweeper", periodic(settings.sweeper.interval, sweeper.run_once, "sweeper")),
        Loop("auditor", periodic(settings.audit_interval, auditor.run_once, "auditor")),
        builder.grpc_server(settings.grpc, registration(servicer)),
    ]


def build_sweeper(
    settings: Settings,
    builder: ServiceBuilder,
    reservations: PostgresReservationStore,
    settlements: PostgresSettlementStore,
) -> Sweeper:
    """Give the sweeper what it asks before it expires a reservation."""
    section, kafka = settings.sweeper, settings.kafka
    return Sweeper(
        reservations,
        Expiry(settlements),
        OrchestratorRequestStates(settings.peers.orchestrator, builder.signer),
        KafkaUsageEvents(kafka, TOPIC, section.catch_up_timeout),
        builder.clock,
        max_batch=section.max_batch,
        extension=section.extension,
    )


async def subscribe_to_price_changes(
    section: PriceChangesSection | None, prices: PriceCache, builder: ServiceBuilder
) -> tuple[PriceChangePublisher | None, Sequence[Component]]:
    """Without Redis, replicas see each other's prices after the TTL of their caches."""
    if section is None:
        return None, ()
    changes = RedisPriceChanges(await builder.redis(section), prices.invalidate)
    return changes, (changes.subscription(),)


def main() -> NoReturn:
    command_line(
        Service(
            name="metering",
            settings=Settings,
            build=with_builder(build),
            schema="metering",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={"replay-dead-letters": replay_dead_letters(lambda settings: settings.kafka, TOPIC, HITS_TOPIC)},
            description="Money: prices, budgets, reservations, ledger, usage.",
        )
    )
