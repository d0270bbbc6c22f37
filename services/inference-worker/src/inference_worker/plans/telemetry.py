"""Attempts as metrics, spans and log lines."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from chassis.errors import ArgosyError, RemoteError
from chassis.telemetry import logger, span
from values.usage import UsageSource

from inference_worker.metrics import ACCOUNT_REFUSALS, ATTEMPTS, FIRST_BYTE_SECONDS, PASSED_OVER, TOKENS, UNKNOWN_USAGE
from inference_worker.plans.model import Attempt, Candidate
from inference_worker.plans.ports import AttemptSpan
from inference_worker.providers.model import UpstreamAccountUnavailable, UpstreamModelNotFound, UpstreamRejected

log = logger(__name__)

# Callers may write any name into a plan; as labels those would grow without bound.
NOT_CONFIGURED = "unknown"


class AttemptTelemetry:
    """An `AttemptObserver` for `upstreams`, which may change meanwhile."""

    def __init__(self, upstreams: Collection[str]) -> None:
        self._upstreams = upstreams

    def start(self, candidate: Candidate, number: int, account: str) -> AttemptSpan:
        upstream = self._label(candidate)
        opened = span("attempt", kind="client", upstream=upstream, model=candidate.model, attempt=number)
        return TelemetrySpan(opened, upstream, account)

    def passed_over(self, candidate: Candidate) -> None:
        _labelled(PASSED_OVER, self._label(candidate)).inc()

    def _label(self, candidate: Candidate) -> str:
        return candidate.upstream if candidate.upstream in self._upstreams else NOT_CONFIGURED


class TelemetrySpan:
    """A span from the start of an attempt to its end."""

    __slots__ = ("_account", "_context", "_span", "_upstream")

    def __init__(self, context: AbstractContextManager[Any], upstream: str, account: str) -> None:
        self._account = account
        self._context = context
        self._span = context.__enter__()
        self._upstream = upstream

    def finish(self, attempt: Attempt, error: ArgosyError | None) -> None:
        _labelled(ATTEMPTS, self._upstream, attempt.outcome).inc()
        if attempt.first_byte_after is not None:
            _labelled(FIRST_BYTE_SECONDS, self._upstream).observe(attempt.first_byte_after.total_seconds())
        self._count_tokens(attempt)
        self._span.set(
            outcome=attempt.outcome,
            usage_source=attempt.usage.source,
            input_tokens=attempt.usage.input_tokens,
            output_tokens=attempt.usage.output_tokens,
        )
        if error is None:
            self._context.__exit__(None, None, None)
            return
        if isinstance(error, UpstreamAccountUnavailable) and not error.own_credential:
            _labelled(ACCOUNT_REFUSALS, self._upstream).inc()
            # An operator must act: no retry mends it.
            log.warning(
                "upstream_account_refused",
                upstream=self._upstream,
                account=self._account,
                code=error.provider_code,
                message=error.message,
            )
        log.info(
            "attempt_failed",
            upstream=self._upstream,
            reason=error.reason,
            error=_loggable_message(error),
            cause=_loggable_cause(error),
        )
        # Without the message: a span records an exception's text, and that of its causes.
        self._context.__exit__(RemoteError, RemoteError(error.kind, error.reason, error.reason), None)

    def _count_tokens(self, attempt: Attempt) -> None:
        usage = attempt.usage
        if usage.source is UsageSource.UNKNOWN:
            UNKNOWN_USAGE.labels(self._upstream).inc()
            return
        for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens:
                _labelled(TOKENS, self._upstream, direction, usage.source).inc(tokens)


def _loggable_message(error: ArgosyError) -> str | None:
    """Return the message, unless it is the upstream's: that may quote the request."""
    return None if isinstance(error, UpstreamRejected | UpstreamModelNotFound) else error.message


def _loggable_cause(error: ArgosyError) -> str | None:
    """Return the cause: an OS error names the unreachable address; others may quote a prompt, so only their type."""
    cause = error.__cause__
    return str(cause) if isinstance(cause, OSError) else type(cause).__name__ if cause is not None else None


# Looking a metric's labels up costs more than incrementing.
@lru_cache(maxsize=2048)
def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)
