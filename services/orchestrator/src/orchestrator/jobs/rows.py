"""Jobs as rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from chassis.tenancy import Principal
from values.money import ClassPrices, NanoUsd, Price
from values.usage import ExposureCause, TokenDetails, TokenUsage, UsageSource

from orchestrator.jobs.model import Job, JobError, JobState, Lane, NewJob
from orchestrator.jobs.runs import ClaimedJob, Run, RunEnd, WaitingEnd
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.usage.model import Attempt

ROLES = frozenset({"service"})
"""A job runs for the project and key that submitted it, without their caller."""


def row_to_job(row: Mapping[str, Any], result: bytes = b"") -> Job:
    """Read a row of `jobs`, or of `finished_jobs`."""
    is_final = "finished_at" in row and row["finished_at"] is not None
    error = row["error"]
    return Job(
        tenant_id=row["tenant_id"],
        job_id=row["job_id"],
        project_id=row["project_id"],
        endpoint=row["endpoint"],
        model=row["model"],
        pool=row["pool"],
        lane=Lane(row["lane"]),
        state=JobState(row["state"]),
        state_reason=row["state_reason"],
        epoch=row["epoch"],
        created_at=row["created_at"],
        deadline_at=row["deadline_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"] if is_final else None,
        expires_at=row["expires_at"] if is_final else None,
        errors=row["errors"],
        crashes=row["crashes"],
        worker_id=row["worker_id"],
        result=result,
        error=None if error is None else JobError(*orjson.loads(error)),
        usage=row_to_usage(row["usage"]),
        cost=NanoUsd(row["cost_nano_usd"]),
        retention=row["retention"],
        metadata=orjson.loads(row["metadata"]),
        batch_id=row["batch_id"],
        custom_id=row["custom_id"],
        cancel_requested=row["cancel_requested"],
    )


def row_to_principal(row: Mapping[str, Any]) -> Principal:
    return Principal(
        row["tenant_id"],
        project_id=row["project_id"],
        key_id=row["key_id"],
        user_id=row["user_id"],
        plan=row["plan"],
        roles=ROLES,
    )


def row_to_run(row: Mapping[str, Any]) -> Run:
    return Run(row_to_job(row), row_to_principal(row), row_to_record(row["run"]), row["now"], row["embedding"] or b"")


def row_to_claimed(row: Mapping[str, Any]) -> ClaimedJob:
    return ClaimedJob(row_to_job(row), row_to_principal(row), row["body"], row["now"])


def columns(rows: Sequence[Sequence[Any]], count: int) -> list[list[Any]]:
    """Turn rows of `count` values into columns, also when there are none."""
    return [[row[number] for row in rows] for number in range(count)]


def new_to_row(job: NewJob) -> tuple[Any, ...]:
    """In the order of `statements.SUBMIT`."""
    return (
        job.tenant_id,
        job.job_id,
        job.project_id,
        job.key_id,
        job.user_id,
        job.plan,
        job.endpoint.value,
        job.model,
        job.body,
        orjson.dumps(job.metadata).decode(),
        job.pool,
        job.lane.value,
        job.cost_tokens,
        job.deadline,
        job.retention,
        job.max_queued,
        job.fingerprint,
        job.batch_id,
        job.custom_id,
    )


def new_to_job(job: NewJob, pool: str, created_at: datetime, deadline_at: datetime) -> Job:
    """`pool` is the tenant's own, where it has one."""
    return Job(
        tenant_id=job.tenant_id,
        job_id=job.job_id,
        project_id=job.project_id,
        endpoint=job.endpoint.value,
        model=job.model,
        pool=pool,
        lane=job.lane,
        state=JobState.QUEUED,
        created_at=created_at,
        deadline_at=deadline_at,
        retention=job.retention,
        metadata=job.metadata,
        batch_id=job.batch_id,
        custom_id=job.custom_id,
    )


def ends_to_arguments(ends: Sequence[RunEnd | WaitingEnd]) -> list[tuple[Any, ...]]:
    """In the order of `statements.END`."""
    return [_end_to_row(end) for end in ends]


def _end_to_row(end: RunEnd | WaitingEnd) -> tuple[Any, ...]:
    job = end.job
    return (
        *end.run,
        not isinstance(end, RunEnd),
        isinstance(end, RunEnd) and end.cancel_requested,
        isinstance(end, RunEnd) and end.overdue,
        job.epoch,
        job.state.value,
        job.state_reason,
        end.delay if isinstance(end, RunEnd) else timedelta(0),
        job.errors,
        job.crashes,
        error_to_row(job.error),
        usage_to_row(job.usage),
        job.cost,
        job.result or None,
        job.finished_at,
        job.expires_at,
    )


def error_to_row(error: JobError | None) -> str | None:
    return None if error is None else orjson.dumps(error, default=tuple).decode()


def usage_to_row(usage: TokenUsage | None) -> str | None:
    return None if usage is None else orjson.dumps(usage[:3]).decode()


def row_to_usage(usage: str | None) -> TokenUsage | None:
    return None if usage is None else _usage(orjson.loads(usage))


def record_to_row(record: AttemptsRecord) -> str:
    reservation = record.reservation
    fields = {
        "held": reservation.held,
        "prices": [price[:4] for price in reservation.prices],
        "class_prices": [price.classes for price in reservation.prices],
        "soft_limit_passed": reservation.soft_limit_passed,
        "cheap": reservation.cheap,
        "bounds": [bound[:3] for bound in record.bounds],
        "ended": [_attempt_to_list(attempt) for attempt in record.ended],
        # Beside the usage, so that the version before reads that; unmade attempts have used nothing.
        "ended_details": [attempt.usage.details for attempt in record.ended],
        "reported": record.reported,
        "running": record.running,
        "unmade": [_attempt_to_list(attempt) for attempt in record.unmade],
    }
    return orjson.dumps(fields, default=tuple).decode()


def row_to_record(run: str | None) -> AttemptsRecord | None:
    if run is None:
        return None
    fields = orjson.loads(run)
    classes = fields.get("class_prices") or [None] * len(fields["prices"])
    prices = tuple(
        Price(key, version, NanoUsd(i), NanoUsd(o), None if own is None else ClassPrices(*own))
        for (key, version, i, o), own in zip(fields["prices"], classes, strict=True)
    )
    details = fields.get("ended_details") or [None] * len(fields["ended"])
    return AttemptsRecord(
        Reservation(NanoUsd(fields["held"]), prices, fields["soft_limit_passed"], fields.get("cheap", 0)),
        tuple(TokenBound(*bound) for bound in fields["bounds"]),
        tuple(map(_attempt, fields["ended"], details)),
        fields["reported"],
        None if fields["running"] is None else (fields["running"][0], fields["running"][1]),
        tuple(map(_attempt, fields["unmade"])),
    )


def _attempt_to_list(attempt: Attempt) -> list[Any]:
    return [attempt.number, attempt.candidate, attempt.usage[:3], attempt.exposure_cause]


def _attempt(fields: list[Any], details: list[int] | None = None) -> Attempt:
    number, candidate, usage, cause = fields
    return Attempt(number, candidate, _usage(usage, details), None if cause is None else ExposureCause(cause))


def _usage(fields: list[Any], details: list[int] | None = None) -> TokenUsage:
    source, input_tokens, output_tokens = fields
    own = None if details is None else TokenDetails(*details)
    return TokenUsage(UsageSource(source), input_tokens, output_tokens, own)
