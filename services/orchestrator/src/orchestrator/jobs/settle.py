"""What becomes of a job at the end of a run, and what its tenant pays for the run. Pure: no clock, no chance."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from chassis.errors import ArgosyError, Kind
from values.money import NanoUsd
from values.usage import total_usage

from orchestrator.chat.finalize import price_attempts
from orchestrator.flags.model import FeatureDisabled
from orchestrator.jobs.errors import JobDeadlineExceeded, WorkerDied
from orchestrator.jobs.model import Job, JobError, JobState, WaitReason, job_error
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.runs import Run, RunEnd, WaitingEnd
from orchestrator.reservations.attempts import AttemptLog
from orchestrator.routing.model import ModelNotFound, NoEligibleCandidate
from orchestrator.usage.model import Attempt, AttemptUsage, RequestUsage, RightSizingUse

RETRYABLE = frozenset({Kind.UNAVAILABLE, Kind.THROTTLED, Kind.TIMED_OUT, Kind.UPSTREAM})
"""Another run may end otherwise."""

QUOTA = "INSUFFICIENT_QUOTA"
MIN_QUOTA_DELAY, MAX_QUOTA_DELAY = timedelta(seconds=2), timedelta(minutes=5)
MAX_OUTAGE_DELAY = timedelta(minutes=1)

CONFIGURED = frozenset({ModelNotFound.reason, NoEligibleCandidate.reason, FeatureDisabled.reason, "UNPRICED_MODEL"})
"""What a replica refuses by the routes, flags and prices that it knows; the one that accepted the job knew others."""
CONFIGURATION_LAG = timedelta(seconds=30)
"""After it every replica has read the configuration by which a job was accepted, also without messages of Redis."""
NO_UPSTREAM = "UPSTREAM_UNAVAILABLE"
"""All circuits were open, so no provider was called."""

NOW = timedelta(0)


class Draw(NamedTuple):
    """What a decision takes from outside."""

    event_id: str
    """Of the event that settles the run, should there be one."""
    chance: float
    """From 0 to 1, for the jitter of a delay."""


def completed(
    run: Run, attempts: Sequence[Attempt], answer: bytes | ArgosyError, policy: JobPolicy, draw: Draw
) -> RunEnd:
    """Return the end of a run that its worker reports, with all its provider calls.

    Raises `Internal` for attempts of candidates that the plan does not have.
    """
    end = _settled(run, attempts, draw, answered=isinstance(answer, bytes) or run.job.cancel_requested)
    if run.job.cancel_requested:
        return _finish(end, JobState.CANCELLED)
    if isinstance(answer, bytes):
        return _finish(end, JobState.SUCCEEDED, result=answer)
    if answer.kind is Kind.CANCELLED:
        # The worker stopped the run for its own reasons.
        return _requeue(end, WaitReason.TURN, NOW, run.job.error)
    if answer.reason == QUOTA:
        return _wait_for_quota(end, run, answer, draw)
    if answer.reason == NO_UPSTREAM:
        return _wait_for_fleet(end, run, answer, policy, draw)
    if answer.kind not in RETRYABLE:
        return _finish(end, JobState.FAILED, error=job_error(answer))
    return _retry(end, run, answer, policy, draw)


def returned(run: Run, attempts: Sequence[Attempt], draw: Draw) -> RunEnd:
    """Return the end of a run that its worker hands back, because it shuts down: it consumes no attempt."""
    end = _settled(run, attempts, draw)
    if run.job.cancel_requested:
        return _finish(end, JobState.CANCELLED)
    return _requeue(end, WaitReason.TURN, NOW, run.job.error)


def unprepared(run: Run, error: ArgosyError, policy: JobPolicy, draw: Draw) -> RunEnd:
    """Return the end of a run that was claimed and could not be prepared: no provider was called.

    Without money, while a part of the fleet is down, or before this replica has the configuration by which the job was
    accepted, the job waits, the longer the older it is; that consumes no attempt.
    """
    end = RunEnd(run.job.ref, _unclaimed(run.job), run.now, cancel_requested=run.job.cancel_requested)
    if run.job.cancel_requested:
        return _finish(end, JobState.CANCELLED)
    if error.reason == QUOTA:
        return _wait_for_quota(end, run, error, draw)
    outdated = error.reason in CONFIGURED and run.now < run.job.created_at + CONFIGURATION_LAG
    if error.kind in RETRYABLE or outdated:
        return _wait_for_fleet(end, run, error, policy, draw)
    return _finish(end, JobState.FAILED, error=job_error(error))


def died(run: Run, policy: JobPolicy, draw: Draw) -> RunEnd:
    """Return the end of a run whose lease has run out: what its last provider call used is unknown."""
    made = () if run.record is None else AttemptLog.restored(run.record).unknown_usage()
    end = _settled(run, made, draw, crashed=True)._replace(overdue=True)
    if run.job.cancel_requested:
        return _finish(end, JobState.CANCELLED)
    if run.now >= run.job.deadline_at:
        return _finish(end, JobState.FAILED, error=late(run.job))
    error = job_error(WorkerDied("the worker that ran the job died"))
    if run.job.crashes >= policy.max_crashes:
        return _change(end, state=JobState.QUARANTINED, state_reason="", error=error)
    return _requeue(end, WaitReason.RETRY, NOW, error)


def ended_waiting(job: Job, state: JobState, now: datetime, error: JobError | None = None) -> WaitingEnd:
    """Return the end of a job that no worker has."""
    return WaitingEnd(job.ref, _final(job, state, now, error=error))


def late(job: Job) -> JobError:
    """Return the error of a job whose deadline has passed, with that of its last run."""
    last = "" if job.error is None else f"; its last run: {job.error.message}"
    return job_error(JobDeadlineExceeded(f"the job had not finished by its deadline{last}"))


def _settled(
    run: Run, reported: Sequence[Attempt], draw: Draw, *, crashed: bool = False, answered: bool = False
) -> RunEnd:
    """Settle a run: the event, and the job with what was used over all its runs.

    A run without a record was never handed out: the event releases what may have been reserved for it.
    """
    job = replace(run.job, epoch=run.job.epoch + 1) if crashed else _unclaimed(run.job)
    used: tuple[AttemptUsage, ...] = ()
    right_sizing: RightSizingUse | None = None
    if run.record is not None:
        log = AttemptLog.restored(run.record)
        made = reported if crashed else log.finished(reported)
        used, priced = price_attempts(log, made)
        right_sizing = log.right_sized(job.model, made, answered=answered)
        before = () if job.usage is None else (job.usage,)
        job = replace(job, usage=total_usage((*before, priced.usage)), cost=NanoUsd(job.cost + priced.cost))
    ref, key_id = run.job.ref, run.principal.key_id
    usage = RequestUsage(
        *(draw.event_id, ref.tenant_id, job.project_id, key_id, ref.request_id, used), right_sizing=right_sizing
    )
    return RunEnd(ref, job, run.now, usage=usage, cancel_requested=job.cancel_requested)


def _unclaimed(job: Job) -> Job:
    """Take the crash back that the claim has counted."""
    return replace(job, crashes=max(0, job.crashes - 1))


def _retry(end: RunEnd, run: Run, error: ArgosyError, policy: JobPolicy, draw: Draw) -> RunEnd:
    end = _change(end, errors=run.job.errors + 1)
    if run.now >= run.job.deadline_at:
        return _finish(end, JobState.FAILED, error=late(replace(run.job, error=job_error(error))))
    if end.job.errors >= policy.max_errors:
        return _finish(end, JobState.FAILED, error=job_error(error))
    bound = min(policy.max_backoff, policy.min_backoff * 2**run.job.errors)
    delay = max(bound * draw.chance, error.retry_after or NOW)
    return _requeue(end, WaitReason.RETRY, delay, job_error(error))


def _wait_for_quota(end: RunEnd, run: Run, error: ArgosyError, draw: Draw) -> RunEnd:
    if run.job.batch_id is not None:
        # The client of a batch gets the refusal with the rest of the batch, and the other lines go on.
        return _finish(end, JobState.FAILED, error=job_error(error))
    return _requeue(end, WaitReason.QUOTA, _slower(run, MIN_QUOTA_DELAY, MAX_QUOTA_DELAY, draw), job_error(error))


def _wait_for_fleet(end: RunEnd, run: Run, error: ArgosyError, policy: JobPolicy, draw: Draw) -> RunEnd:
    """No provider was called: the job waits until its deadline, and consumes no attempt."""
    delay = max(_slower(run, policy.min_backoff, MAX_OUTAGE_DELAY, draw), error.retry_after or NOW)
    return _requeue(end, WaitReason.RETRY, delay, job_error(error))


def _slower(run: Run, least: timedelta, most: timedelta, draw: Draw) -> timedelta:
    """A quarter of the job's age, so that the delay grows with each wait, with jitter."""
    age = run.now - run.job.created_at
    return min(max(age / 4, least), most) * (0.5 + draw.chance / 2)


def _requeue(end: RunEnd, reason: WaitReason, delay: timedelta, error: JobError | None) -> RunEnd:
    return _change(end, state=JobState.QUEUED, state_reason=reason.value, error=error)._replace(delay=delay)


def _finish(end: RunEnd, state: JobState, *, result: bytes = b"", error: JobError | None = None) -> RunEnd:
    return end._replace(job=_final(end.job, state, end.at, result=result, error=error))


def _final(job: Job, state: JobState, now: datetime, *, result: bytes = b"", error: JobError | None = None) -> Job:
    return replace(
        job,
        state=state,
        state_reason="",
        result=result,
        error=error,
        finished_at=now,
        expires_at=now + job.retention,
    )


def _change(end: RunEnd, **changes: Any) -> RunEnd:
    return end._replace(job=replace(end.job, **changes))
