"""Wires the inference worker."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.kafka import ClaimingConsumer
from chassis.lifecycle import (
    Command,
    Component,
    Loop,
    Service,
    ServiceBuilder,
    command_line,
    supervised,
    with_builder,
)
from chassis.telemetry import logger

from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.redis import CIRCUITS_CHANNEL, RedisExchange
from inference_worker.breakers.schedule import CircuitSharing
from inference_worker.breakers.telemetry import observe_circuits
from inference_worker.concurrency.drain import AbortOnDrain
from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.embeddings.run import EmbedRun
from inference_worker.grpc import registration
from inference_worker.jobs.connection import Connection
from inference_worker.jobs.consumer import DispatchConsumer, lane_topics
from inference_worker.jobs.drain import JobDrain
from inference_worker.jobs.heartbeat import Heartbeats
from inference_worker.jobs.model import Offer
from inference_worker.jobs.offers import Offers
from inference_worker.jobs.orchestrator_client import GrpcOrchestrator
from inference_worker.jobs.redis import (
    CANCEL_CHANNEL,
    COMMAND_SECONDS,
    OFFERS_CHANNEL,
    RedisDeltas,
    cancel_handler,
    offers_handler,
)
from inference_worker.jobs.run import JobRuns, NewEmbedRun, NewPlanRun
from inference_worker.jobs.telemetry import JobTelemetry
from inference_worker.jobs.worker import JobWorker
from inference_worker.metrics import IN_FLIGHT, JOB_SLOTS, JOB_SLOTS_USED, PROCESS_RESTARTS, REJECTED
from inference_worker.plans.grpc import PlanMethods
from inference_worker.plans.run import PlanRun
from inference_worker.plans.telemetry import AttemptTelemetry
from inference_worker.price_map.cli import HELP, add_arguments, run_seed_prices
from inference_worker.rerank.grpc import RerankMethods
from inference_worker.rerank.run import RerankRun
from inference_worker.settings import JobsSection, Settings
from inference_worker.token_counting.tiktoken import load_token_bytes
from inference_worker.upstreams.grpc import UpstreamMethods
from inference_worker.upstreams.main import build_upstreams

# At the end of the drain: time for aborted plans to report their usage, then time to close connections.
USAGE_GRACE = timedelta(seconds=3)
CLOSE_GRACE = timedelta(seconds=1)

log = logger(__name__)


async def build(settings: Settings, service: ServiceBuilder) -> Sequence[Component]:
    """Open every upstream and return the server."""
    clock = service.clock
    limit = ConcurrencyLimit(settings.max_in_flight, REJECTED.inc)
    # Read at each scrape, which is rarer than its changes.
    IN_FLIGHT.set_function(lambda: limit.in_flight)
    here = supervised()
    PROCESS_RESTARTS.set(here.restarts if here else 0)
    configured = {
        name: config.isolate(await config.open(clock, service.stack)) for name, config in settings.upstreams.items()
    }
    peers = settings.peers
    orchestrator = None if peers is None else await service.channel(peers.orchestrator, "orchestrator")
    keys = [key.get_secret_value() for key in settings.credential_keys]
    upstreams, watches = await build_upstreams(
        service, orchestrator, configured, keys=keys, allow_link_local=settings.allow_link_local
    )
    observer = AttemptTelemetry(upstreams)
    circuits = Circuits(settings.circuits.policy(), settings.retries.new_budget)
    observe_circuits(circuits, upstreams, clock.monotonic)
    new_run = partial(
        PlanRun,
        upstreams=upstreams,
        clock=clock,
        observer=observer,
        usage_wait=settings.usage_wait,
        circuits=circuits,
        retries=settings.retries.policy(),
        min_rate=settings.min_stream_bytes_per_second,
    )
    one_call: dict[str, Any] = {"upstreams": upstreams, "clock": clock, "observer": observer, "circuits": circuits}
    new_embed_run = partial(EmbedRun, load_token_bytes=load_token_bytes, **one_call)
    plans, embeddings = PlanMethods(new_run, limit), EmbeddingMethods(new_embed_run, limit)
    rerank = RerankMethods(partial(RerankRun, **one_call), limit)
    named = UpstreamMethods(upstreams, circuits, clock.monotonic)
    grace = settings.drain - CLOSE_GRACE
    jobs, job_drain = await build_jobs(settings, service, orchestrator, new_run, new_embed_run)
    return [
        *watches,
        *await share_circuits(settings, service, circuits),
        *jobs,
        service.grpc_server(settings.grpc, registration(plans, embeddings, rerank, named), grace=grace),
        # Components stop in reverse order, and plans are aborted while the server still runs.
        AbortOnDrain(plans.abort_all, grace - USAGE_GRACE),
        *job_drain,
    ]


async def share_circuits(settings: Settings, service: ServiceBuilder, circuits: Circuits) -> list[Component]:
    """Tell other replicas of circuits, and hear of theirs, if Redis is configured."""
    if settings.redis is None:
        return []
    replica, redis = new_id("worker_"), await service.redis(settings.redis)
    sharing = CircuitSharing(circuits, RedisExchange(redis, replica), replica, service.clock.monotonic)
    return [
        redis.subscribe(CIRCUITS_CHANNEL, sharing.receive, sharing.connected),
        Loop("circuits", sharing.run),
    ]


async def build_jobs(
    settings: Settings,
    service: ServiceBuilder,
    channel: Channel | None,
    new_plan_run: NewPlanRun,
    new_embed_run: NewEmbedRun,
) -> tuple[list[Component], list[Component]]:
    """Wire the queue door, if it is configured: what runs beside the server, and what begins the drain."""
    if settings.kafka is None or channel is None or settings.redis is None:
        return [], []
    section = settings.jobs or JobsSection()
    kafka = settings.kafka.model_copy(update={"group": settings.kafka.group or f"inference-worker-jobs-{section.pool}"})
    worker_id = new_id("worker_")
    # So that an operator who reads of a job's worker finds its process.
    log.info("jobs_worker", worker=worker_id, pool=section.pool, slots=section.slots)
    orchestrator = GrpcOrchestrator(channel, service.signer, worker_id, section.pool)
    delta_redis = await service.multiplexed_redis(settings.redis, timeout_seconds=COMMAND_SECONDS)
    deltas = RedisDeltas(delta_redis, section.delta_ttl)
    observer = JobTelemetry()
    runs = JobRuns(orchestrator, deltas, new_plan_run, new_embed_run)
    worker = JobWorker(orchestrator, runs, deltas, observer, section.slots)
    heartbeats = Heartbeats(worker, orchestrator, observer)
    worker.on_unreported = heartbeats.wake
    dispatches = DispatchConsumer(worker, orchestrator, observer)
    here = supervised()
    consumer = ClaimingConsumer(
        kafka,
        lane_topics(section.pool),
        dispatches,
        slots=section.slots,
        # One that was killed comes back within milliseconds, and keeps its partitions.
        member_name=f"worker-{here.family}" if here else "",
    )
    offers = Offers(
        worker,
        orchestrator,
        observer,
        lambda: consumer.slots_used,
        lambda found: consumer.offer(partial(dispatches.claim_offer, offer) for offer in found),
    )
    connection = Connection(orchestrator, heartbeats, observer)
    named = partial(take_named, consumer=consumer, dispatches=dispatches, offers=offers)
    JOB_SLOTS.set_function(lambda: worker.slots)
    JOB_SLOTS_USED.set_function(lambda: consumer.slots_used)
    redis = await service.redis(settings.redis)
    grace = settings.drain - CLOSE_GRACE
    return [
        # They stop last: while runs end, their leases must hold, and cancellations reach them.
        Loop("job heartbeats", heartbeats.run),
        redis.subscribe(CANCEL_CHANNEL, cancel_handler(worker.cancel)),
        redis.subscribe(OFFERS_CHANNEL + section.pool, offers_handler(worker_id, named)),
        Loop("job connection", connection.run),
        service.topics(kafka, *lane_topics(section.pool)),
        consumer,
        Loop("job offers", offers.run),
    ], [JobDrain(worker, heartbeats, consumer.stop_taking, return_after=grace - USAGE_GRACE, exit_after=grace)]


def take_named(
    named: Sequence[Offer], *, consumer: ClaimingConsumer, dispatches: DispatchConsumer, offers: Offers
) -> None:
    """Claim what the orchestrator has named; when it has named nothing, ask. A consumer that drains takes nothing."""
    consumer.offer_also(partial(dispatches.claim_offer, offer) for offer in named)
    if not named:
        offers.wake()


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="inference-worker",
            settings=Settings,
            build=with_builder(build),
            commands={"seed-prices": Command(HELP, lambda _, arguments: run_seed_prices(arguments), add_arguments)},
            description="Execution: providers, attempts, fallback, embeddings.",
            supervised=lambda settings: settings.supervised,
        )
    )
