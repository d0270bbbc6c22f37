"""Metrics and the log line of each request."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType

import grpc
from chassis.errors import ArgosyError, Kind
from chassis.telemetry import annotate, logger
from values.money import NanoUsd
from values.usage import TokenUsage

from orchestrator.metrics import EMBEDDINGS, FIRST_CHUNK_SECONDS, GENERATION_SECONDS, GENERATIONS, RERANKS, TOKENS

log = logger("orchestrator")

ANSWERED, INTERRUPTED, CANCELLED = "answered", "interrupted", "cancelled"

# The caller ended the call: its task is cancelled while it waits, or a write fails.
DISCONNECTED = (asyncio.CancelledError, grpc.aio.BaseError)

# Bound once: looking a child up costs more than counting.
_GENERATIONS = {outcome: GENERATIONS.labels(outcome) for outcome in (ANSWERED, INTERRUPTED, CANCELLED, *Kind)}
_EMBEDDINGS = {outcome: EMBEDDINGS.labels(outcome) for outcome in (ANSWERED, CANCELLED, *Kind)}
_RERANKS = {outcome: RERANKS.labels(outcome) for outcome in (ANSWERED, CANCELLED, *Kind)}
_INPUT_TOKENS, _OUTPUT_TOKENS = TOKENS.labels("input"), TOKENS.labels("output")


class RequestObservation(AbstractContextManager["RequestObservation"]):
    """Observes one request: its metrics and one log line, by its outcome, are written when the block ends."""

    def __init__(self, name: str, model: str) -> None:
        self._name = name
        self._model = model
        self._started = perf_counter()
        self.flags: Mapping[str, str] = {}
        """The feature flags that were evaluated: key to variant."""
        self._first_chunk_seconds: float | None = None
        self._usage: TokenUsage | None = None
        self._cost: NanoUsd | None = None
        self._outcome: str = CANCELLED
        self._reason: str | None = None

    def first_chunk(self) -> None:
        """Note the time of the first chunk; later calls have no effect."""
        if self._first_chunk_seconds is None:
            self._first_chunk_seconds = perf_counter() - self._started

    def finished(self, usage: TokenUsage, cost: NanoUsd, error: ArgosyError | None = None) -> None:
        """Note the end of the answer; with an error it was interrupted."""
        self._usage, self._cost = usage, cost
        self._outcome = ANSWERED if error is None else INTERRUPTED
        self._reason = None if error is None else error.reason

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, DISCONNECTED):
            self._outcome = error.kind if isinstance(error, ArgosyError) else Kind.INTERNAL
            self._reason = error.reason if isinstance(error, ArgosyError) else None
        self._report(perf_counter() - self._started)

    def _report(self, seconds: float) -> None:
        usage, first_chunk_seconds = self._usage, self._first_chunk_seconds
        if self._name == "generation":
            _GENERATIONS[self._outcome].inc()
            GENERATION_SECONDS.observe(seconds)
            if first_chunk_seconds is not None:
                FIRST_CHUNK_SECONDS.observe(first_chunk_seconds)
        else:
            (_RERANKS if self._name == "rerank" else _EMBEDDINGS)[self._outcome].inc()
        if usage is not None:
            _INPUT_TOKENS.inc(usage.input_tokens or 0)
            _OUTPUT_TOKENS.inc(usage.output_tokens or 0)
        log.info(
            self._name,
            model=self._model,
            outcome=str(self._outcome),
            reason=self._reason,
            seconds=round(seconds, 4),
            first_chunk_seconds=None if first_chunk_seconds is None else round(first_chunk_seconds, 4),
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            cost_nano_usd=self._cost,
            **({"flags": ",".join(self._evaluated())} if self.flags else {}),
        )
        if self.flags:
            annotate(feature_flags=list(self._evaluated()))

    def _evaluated(self) -> Iterator[str]:
        return (f"{key}={variant}" for key, variant in sorted(self.flags.items()))
