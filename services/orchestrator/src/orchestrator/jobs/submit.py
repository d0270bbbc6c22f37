"""Accepts jobs: checked as a request that is answered at once, and durable when it returns."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import orjson
from chassis.errors import ArgosyError, Internal, InvalidRequest
from chassis.tenancy import Principal

from orchestrator.chat.model import RequestTooLarge
from orchestrator.jobs.errors import EndpointNotSupported, LaneNotAllowed
from orchestrator.jobs.model import Endpoint, Job, JobState, Lane, NewJob
from orchestrator.jobs.policy import JobPlan, JobPolicy
from orchestrator.jobs.ports import JobSignals, JobStore
from orchestrator.jobs.work import JobWork

MAX_LABELS, MAX_LABEL_NAME, MAX_LABEL_VALUE = 16, 64, 512
MAX_CUSTOM_ID = 512
MIN_DEADLINE = timedelta(seconds=1)
MIN_BATCH_RETENTION = timedelta(days=3)
"""A batch writes its files at the end of its window, a day after the first answers."""

_JOB_ID = re.compile(r"job_[A-Za-z0-9_-]{1,64}", re.ASCII)


class JobRequest(NamedTuple):
    """A job to accept."""

    job_id: str
    """Of "job_" and a UUIDv7: lists are ordered by it."""
    endpoint: str
    body: bytes
    lane: Lane | None = None
    """None for that of the tenant's plan."""
    metadata: Mapping[str, str] = {}
    deadline: timedelta | None = None
    """None for the default."""
    custom_id: str | None = None
    """The client's name for it within a batch."""


class Accepted(NamedTuple):
    """A job that is queued, or that was accepted before."""

    job: Job
    warnings: tuple[str, ...] = ()
    """What was dropped from the request, a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submissions:
    """Accepts jobs for a caller."""

    store: JobStore
    work: JobWork
    policy: JobPolicy
    signals: JobSignals
    on_queued: Callable[[], None]
    """Called when jobs were queued."""
    on_bug: Callable[[Exception], None] = lambda _: None
    """Called when one request of several could not be checked for another reason than an `ArgosyError`."""

    async def submit(self, principal: Principal, request: JobRequest) -> Accepted:
        """Accept one job; safe to repeat.

        Raises the errors of the synchronous door that are known before a reservation, `EndpointNotSupported`,
        `LaneNotAllowed`, `JobIdReused`, `QueueFull`, `Unavailable`.
        """
        (result,) = await self.submit_all(principal, [request])
        if isinstance(result, ArgosyError):
            raise result
        return result

    async def submit_all(
        self, principal: Principal, requests: Sequence[JobRequest], *, batch_id: str | None = None
    ) -> list[Accepted | ArgosyError]:
        """Accept many jobs in one transaction, a few hundred at once; each is accepted or refused on its own.

        Safe to repeat with the same ids. Raises `Unavailable`: then none of them, or all, may be accepted.
        """
        checked = [await self._check(principal, request, batch_id) for request in requests]
        jobs = [one[0] for one in checked if not isinstance(one, ArgosyError)]
        stored = iter(await self.store.submit(jobs))
        results: list[Accepted | ArgosyError] = []
        for one in checked:
            result = one if isinstance(one, ArgosyError) else next(stored)
            if isinstance(result, ArgosyError) or isinstance(one, ArgosyError):
                results.append(result if isinstance(result, ArgosyError) else one)  # type: ignore[arg-type]
                continue
            results.append(Accepted(result, one[1]))
            if result.state is JobState.QUEUED and not result.epoch:
                self.signals.changed(result)
        if jobs:
            self.on_queued()
        return results

    async def _check(
        self, principal: Principal, request: JobRequest, batch_id: str | None
    ) -> tuple[NewJob, tuple[str, ...]] | ArgosyError:
        try:
            return await self._new_job(principal, request, batch_id)
        except ArgosyError as error:
            return error
        except Exception as error:
            # A bug that one line of a batch meets: the others go on.
            if batch_id is None:
                raise
            self.on_bug(error)
            return Internal("the request could not be checked")

    async def _new_job(
        self, principal: Principal, request: JobRequest, batch_id: str | None
    ) -> tuple[NewJob, tuple[str, ...]]:
        endpoint = _endpoint(request.endpoint)
        _check_names(request)
        if len(request.body) > self.policy.max_body_bytes:
            raise RequestTooLarge(
                f"the body has {len(request.body)} bytes, that of a job at most {self.policy.max_body_bytes}"
            )
        plan = self.policy.plan(principal.plan)
        lane, deadline = _lane(request.lane, plan), self._deadline(request.deadline)
        checked = await self.work.check(principal, f"{request.job_id}.1", endpoint, request.body)
        job = NewJob(
            tenant_id=principal.tenant_id,
            job_id=request.job_id,
            project_id=principal.project_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            plan=principal.plan,
            endpoint=endpoint,
            model=checked.model,
            body=request.body,
            metadata=dict(request.metadata),
            pool=plan.pool,
            lane=lane,
            cost_tokens=checked.cost_tokens,
            deadline=deadline,
            retention=plan.retention if batch_id is None else max(plan.retention, MIN_BATCH_RETENTION),
            max_queued=plan.max_queued,
            fingerprint=_fingerprint(request, batch_id),
            batch_id=batch_id,
            custom_id=request.custom_id,
        )
        return job, checked.warnings

    def _deadline(self, deadline: timedelta | None) -> timedelta:
        if deadline is None:
            return self.policy.default_deadline
        if not MIN_DEADLINE <= deadline <= self.policy.max_deadline:
            longest = self.policy.max_deadline.total_seconds()
            raise InvalidRequest(f"deadline is not a time from 1 to {longest:.0f} seconds", param="deadline")
        return deadline


def _endpoint(name: str) -> Endpoint:
    try:
        return Endpoint(name)
    except ValueError:
        supported = " and ".join(Endpoint)
        raise EndpointNotSupported(f"jobs can be made of {supported}", param="endpoint") from None


def _lane(lane: Lane | None, plan: JobPlan) -> Lane:
    order = list(Lane)
    if lane is not None and order.index(lane) < order.index(plan.lane):
        raise LaneNotAllowed(f"the plan's lane is {plan.lane}; a job may lower it, not raise it", param="lane")
    return lane or plan.lane


def _check_names(request: JobRequest) -> None:
    if _JOB_ID.fullmatch(request.job_id) is None:
        raise InvalidRequest("job_id is not job_ and letters and digits", param="job_id")
    if len(request.metadata) > MAX_LABELS:
        raise InvalidRequest(f"metadata has more than {MAX_LABELS} labels", param="metadata")
    for name, value in request.metadata.items():
        if not 1 <= len(name) <= MAX_LABEL_NAME or len(value) > MAX_LABEL_VALUE or "\0" in name + value:
            raise InvalidRequest(
                f"a label has a name of 1 to {MAX_LABEL_NAME} and a value of at most {MAX_LABEL_VALUE} characters",
                param=f"metadata.{name}"[:100],
            )
    custom_id = request.custom_id
    if custom_id is not None and (not 1 <= len(custom_id) <= MAX_CUSTOM_ID or "\0" in custom_id):
        raise InvalidRequest(f"custom_id is not a text of 1 to {MAX_CUSTOM_ID} characters", param="custom_id")


def _fingerprint(request: JobRequest, batch_id: str | None) -> bytes:
    deadline = None if request.deadline is None else request.deadline.total_seconds()
    chosen = [request.endpoint, request.lane, sorted(request.metadata.items()), deadline, request.custom_id, batch_id]
    return hashlib.sha256(orjson.dumps(chosen) + request.body).digest()
