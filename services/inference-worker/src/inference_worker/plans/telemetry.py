"""Attempts, as metrics and spans."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from chassis.errors import ArgosyError, RemoteError
from chassis.telemetry import logger, span

from inference_worker.domain.account import Attempt
from inference_worker.domain.failures import UpstreamRefused
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Entry
from inference_worker.domain.usage import UsageSource
from inference_worker.metrics import ATTEMPTS, FIRST_BYTE_SECONDS, TOKENS, UNKNOWN_USAGE

log = logger(__name__)

# Labels must not grow with what callers write into plans.
NOT_CONFIGURED = "unknown"


class TelemetryJournal:
    """Writes every attempt down for people."""

    def __init__(self, upstreams: Collection[str]) -> None:
        self._upstreams = frozenset(upstreams)

    def began(self, candidate: Candidate, number: int) -> Entry:
        """Open a span; it ends with the attempt."""
        upstream = candidate.upstream if candidate.upstream in self._upstreams else NOT_CONFIGURED
        timed = span("attempt", kind="client", upstream=upstream, model=candidate.model, attempt=number)
        return SpanEntry(timed, upstream)


class SpanEntry:
    """One attempt in the journal."""

    __slots__ = ("_span", "_timed", "_upstream")

    def __init__(self, timed: AbstractContextManager[Any], upstream: str) -> None:
        self._timed = timed
        self._span = timed.__enter__()
        self._upstream = upstream

    def ended(self, attempt: Attempt, failure: ArgosyError | None) -> None:
        """Close the span and count."""
        _attempts(self._upstream, attempt.outcome).inc()
        if attempt.first_byte_after is not None:
            _first_byte(self._upstream).observe(attempt.first_byte_after.total_seconds())
        self._count_tokens(attempt)
        self._span.set(
            outcome=attempt.outcome,
            usage_source=attempt.usage.source,
            input_tokens=attempt.usage.input_tokens,
            output_tokens=attempt.usage.output_tokens,
        )
        if failure is None:
            self._timed.__exit__(None, None, None)
            return
        error, cause = _words(failure), _cause(failure)
        log.info("attempt_failed", upstream=self._upstream, reason=failure.reason, error=error, cause=cause)
        # By its name alone: a span keeps an exception's words, and those of everything behind it.
        named = RemoteError(failure.kind, failure.reason, failure.reason)
        self._timed.__exit__(RemoteError, named, None)

    def _count_tokens(self, attempt: Attempt) -> None:
        usage = attempt.usage
        if usage.source is UsageSource.UNKNOWN:
            UNKNOWN_USAGE.labels(self._upstream).inc()
            return
        for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens:
                _tokens(self._upstream, direction, usage.source).inc(tokens)


def _words(failure: ArgosyError) -> str | None:
    """What a failure says, unless the upstream says it: whoever refuses a request may quote it."""
    return None if isinstance(failure, UpstreamRefused) else failure.message


def _cause(failure: ArgosyError) -> str | None:
    """What lies behind a failure: an address that nobody answers helps who mends it; other words may be a prompt's."""
    cause = failure.__cause__
    return str(cause) if isinstance(cause, OSError) else type(cause).__name__ if cause is not None else None


# Finding a metric's child costs more than counting: keep each once.
@lru_cache(maxsize=1024)
def _attempts(upstream: str, outcome: str) -> Any:
    return ATTEMPTS.labels(upstream, outcome)


@lru_cache(maxsize=256)
def _first_byte(upstream: str) -> Any:
    return FIRST_BYTE_SECONDS.labels(upstream)


@lru_cache(maxsize=1024)
def _tokens(upstream: str, direction: str, source: str) -> Any:
    return TOKENS.labels(upstream, direction, source)
