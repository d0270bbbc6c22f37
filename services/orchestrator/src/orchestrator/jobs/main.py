"""Wires jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chassis.aio import periodic
from chassis.clock import Clock
from chassis.grpc import Registration
from chassis.kafka import OutboxRelay
from chassis.lifecycle import Component, Loop
from chassis.postgres import Database
from chassis.tenancy import PrincipalSigner

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.context.ports import RetrievalClient
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.idempotency.postgres import PostgresIdempotencyKeys
from orchestrator.jobs.cancel import Cancellations
from orchestrator.jobs.claim import Claims
from orchestrator.jobs.complete import Runs
from orchestrator.jobs.dispatch import Dispatcher
from orchestrator.jobs.end import RunEnds
from orchestrator.jobs.grpc import JobServicer, Watch, job_registration, no_events
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.offers.connections import WorkerConnections
from orchestrator.jobs.offers.ports import NoPushSignals
from orchestrator.jobs.offers.push import OfferPush
from orchestrator.jobs.policy import JobIntervals, JobPolicy
from orchestrator.jobs.ports import JobReader, JobSignals, JobStore, NoSignals
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.reap import Reaper
from orchestrator.jobs.schedule import DispatchLoop, keep_partitions, log_bug
from orchestrator.jobs.submit import Submissions
from orchestrator.jobs.work import JobWork
from orchestrator.jobs.workers.grpc import JobRunServicer, run_registration
from orchestrator.limits import Limits
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import UnknownFields
from orchestrator.usage.record import UsageRecorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What jobs share with requests that are answered at once."""

    database: Database
    relay: OutboxRelay
    on_written: Callable[[], None]
    """Called after usage events were written."""
    routes: RouteCache
    retrieval: RetrievalClient
    reservations: Reservations
    recorder: UsageRecorder
    tasks: BackgroundTasks
    clock: Clock
    signer: PrincipalSigner
    flags: FlagCache = NO_FLAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The engine of jobs. Other features submit, read and cancel through it, in the process."""

    store: JobStore
    reader: JobReader
    submissions: Submissions
    cancellations: Cancellations
    registrations: Sequence[Registration]
    loops: Sequence[Component]
    connections: Component
    """Those of workers. Goes after the gRPC server, which waits for its calls."""


def build_jobs(
    shared: Shared,
    *,
    policy: JobPolicy,
    intervals: JobIntervals,
    limits: Limits,
    unknown_fields: UnknownFields,
    signals: JobSignals | None = None,
    watch: Watch = no_events,
    push: OfferPush | None = None,
) -> Jobs:
    """Make the engine; its loops run in every replica."""
    signals = signals or NoSignals()
    push = push or OfferPush(NoPushSignals(), shared.clock.monotonic)
    connections = WorkerConnections(push)
    store = PostgresJobStore(shared.database, on_written=shared.on_written, on_dispatched=shared.relay.wake)
    reader = PostgresJobReader(shared.database)
    dispatch = DispatchLoop(Dispatcher(store=store, policy=policy, on_dispatched=push.dispatched), intervals.poll)
    ends = RunEnds(store=store, signals=signals, on_room=dispatch.wake)
    work = JobWork.for_jobs(
        policy,
        routes=shared.routes,
        retrieval=shared.retrieval,
        reservations=shared.reservations,
        clock=shared.clock,
        limits=limits,
        unknown_fields=unknown_fields,
        flags=shared.flags,
    )
    submissions = Submissions(
        store=store, work=work, policy=policy, signals=signals, on_queued=dispatch.wake, on_bug=log_bug
    )
    cancellations = Cancellations(store=store, reader=reader, policy=policy, signals=signals, on_queued=dispatch.wake)
    claims = Claims(
        store=store,
        work=work,
        ends=ends,
        recorder=shared.recorder,
        tasks=shared.tasks,
        signer=shared.signer,
        policy=policy,
        signals=signals,
    )
    runs = Runs(store=store, ends=ends, reservations=shared.reservations, policy=policy, on_heartbeat=push.seen)
    reaper = Reaper(store=store, policy=policy, signals=signals, ends=ends)
    keys = PostgresIdempotencyKeys(shared.database)
    return Jobs(
        store=store,
        reader=reader,
        submissions=submissions,
        cancellations=cancellations,
        registrations=(
            job_registration(
                JobServicer(submissions=submissions, cancellations=cancellations, reader=reader, watch=watch, keys=keys)
            ),
            run_registration(JobRunServicer(claims=claims, runs=runs, policy=policy, connections=connections)),
        ),
        loops=_loops(store, dispatch, reaper, keys, intervals),
        connections=connections,
    )


def _loops(
    store: PostgresJobStore,
    dispatch: DispatchLoop,
    reaper: Reaper,
    keys: PostgresIdempotencyKeys,
    intervals: JobIntervals,
) -> tuple[Loop, ...]:
    partitions = keep_partitions(store, intervals.days_ahead)
    return (
        Loop("job-partitions", periodic(intervals.partitions, partitions, "job-partitions")),
        Loop("idempotency-keys", periodic(intervals.partitions, keys.forget_expired, "idempotency-keys")),
        Loop("job-dispatch", dispatch),
        Loop("job-reaper", periodic(intervals.reap, reaper.run_once, "job-reaper")),
    )
