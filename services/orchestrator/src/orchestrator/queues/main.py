"""Wires queues: their gRPC service and their metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.aio import periodic
from chassis.clock import Clock
from chassis.grpc import Registration
from chassis.lifecycle import Component, Loop
from chassis.postgres import Database

from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.ports import JobReader
from orchestrator.metrics import QUEUES_AGE_SECONDS
from orchestrator.queues.figures import LatestFigures
from orchestrator.queues.grpc import QueueServicer, registration
from orchestrator.queues.postgres import PostgresQueueStore
from orchestrator.queues.schedule import FigureRefresher


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """What `main` serves and runs."""

    registrations: Sequence[Registration]
    figures: LatestFigures
    refresh: Component


def build_queues(
    database: Database,
    reader: JobReader,
    cancellations: Cancellations,
    clock: Clock,
    *,
    interval: timedelta,
    on_resumed: Callable[[], None],
) -> Queues:
    """Read the figures every `interval`; a pause that ends wakes the dispatcher."""
    store = PostgresQueueStore(database)
    figures = LatestFigures(store, clock)
    refresher = FigureRefresher(figures, interval)
    QUEUES_AGE_SECONDS.set_function(lambda: figures.age_seconds)
    servicer = QueueServicer(store, reader, cancellations, on_resumed)
    return Queues(
        registrations=(registration(servicer),),
        figures=figures,
        refresh=Loop("queue-figures", periodic(interval, refresher.run_once, "queue-figures")),
    )
