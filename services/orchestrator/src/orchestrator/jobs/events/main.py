"""Wires the events of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.ids import new_id
from chassis.lifecycle import Component, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import RedisSection

from orchestrator.jobs.events.grpc import StopWatches, watch_job
from orchestrator.jobs.events.redis import RedisJobEventLog, RedisJobSignals
from orchestrator.jobs.events.watch import JobWatcher
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.offers.push import OfferPush
from orchestrator.jobs.offers.redis import ENDED_CHANNEL, RedisPushSignals


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvents:
    """What the engine publishes to, and what serves those who watch."""

    signals: RedisJobSignals
    push: OfferPush
    watcher: JobWatcher
    components: Sequence[Component]
    stop_watches: Component
    """Goes after the gRPC server, which waits for its calls."""

    async def watch(self, request: pb.WatchJobRequest, context: Any) -> None:
        await watch_job(self.watcher, request, context)


async def build_job_events(
    service: ServiceBuilder, database: Database, section: RedisSection, ttl: timedelta
) -> JobEvents:
    """Open Redis. Without it jobs run, and those who watch them see states by polling, and no deltas."""
    redis = await service.multiplexed_redis(section)
    log = RedisJobEventLog(redis, section.url)
    watcher = JobWatcher(PostgresJobReader(database), log)
    push_signals = RedisPushSignals(redis, new_id("orc_"))
    push = OfferPush(push_signals, service.clock.monotonic)
    ended = (await service.redis(section)).subscribe(ENDED_CHANNEL, push_signals.ended_handler(push.ended))
    return JobEvents(
        signals=RedisJobSignals(redis, ttl),
        push=push,
        watcher=watcher,
        components=(log.arrivals, ended),
        stop_watches=StopWatches(watcher),
    )
