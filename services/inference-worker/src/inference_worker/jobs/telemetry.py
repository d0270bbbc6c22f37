"""Jobs as metrics and log lines."""

from datetime import UTC, datetime

from chassis.errors import CONTAINS_USER_CONTENT, ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from inference_worker.jobs.model import ClaimedJob, Dispatch, NoWork, RunEnd, RunRef, RunResult
from inference_worker.metrics import JOB_CLAIM_SECONDS, JOB_DISPATCH_SECONDS, JOB_SECONDS, JOBS_CLAIMED, JOBS_ENDED

log = logger(__name__)


class JobTelemetry:
    """Implements `JobObserver`."""

    def __init__(self) -> None:
        self._failure_log = RateLimitedLog(log)

    def claimed(self, dispatch: Dispatch, claimed: ClaimedJob, seconds: float) -> None:
        JOB_CLAIM_SECONDS.observe(seconds)
        if dispatch.dispatched_at is not None:
            waited = datetime.now(UTC) - dispatch.dispatched_at.replace(tzinfo=UTC)
            # Two machines' clocks: a negative difference is none.
            JOB_DISPATCH_SECONDS.labels(dispatch.lane).observe(max(0.0, waited.total_seconds()))
        if isinstance(claimed.work, NoWork):
            JOBS_CLAIMED.labels("no_work").inc()
            log.info("job_not_run", job=claimed.ref.job_id, reason=claimed.work.reason)
            return
        JOBS_CLAIMED.labels("claimed").inc()
        log.info("job_claimed", job=claimed.ref.job_id, epoch=claimed.ref.epoch, lane=dispatch.lane)

    def not_claimable(self, dispatch: Dispatch) -> None:
        JOBS_CLAIMED.labels("not_claimable").inc()
        log.info("job_not_claimable", job=dispatch.ref.job_id, epoch=dispatch.ref.epoch)

    def retried(self, run: RunRef, step: str, error: ArgosyError) -> None:
        message = {} if error.kind in CONTAINS_USER_CONTENT else {"message": error.message}
        self._failure_log.warning(
            "job_step_failed", key=f"{step} {error.reason}", step=step, job=run.job_id, reason=error.reason, **message
        )

    def run_failed(self, run: RunRef, error: Exception) -> None:
        log.error("job_run_failed", job=run.job_id, epoch=run.epoch, exc_info=error)

    def ended(self, run: RunRef, end: RunEnd, result: RunResult | None, seconds: float) -> None:
        JOBS_ENDED.labels(end).inc()
        JOB_SECONDS.observe(seconds)
        error = result.error if result is not None else None
        log.info(
            "job_run_ended",
            job=run.job_id,
            epoch=run.epoch,
            end=end,
            attempts=len(result.attempts) if result is not None else None,
            reason=error.reason if error is not None else None,
            seconds=round(seconds, 6),
        )
