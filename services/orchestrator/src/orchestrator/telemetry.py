"""What is measured and logged of each request, at the one place that sees its beginning and its end."""

import asyncio
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType
from typing import Self

import grpc
from chassis.errors import ArgosyError, Kind
from chassis.telemetry import logger

from orchestrator.domain.finalize import Bill
from orchestrator.domain.ports import Failure
from orchestrator.metrics import EMBEDDINGS, FIRST_CHUNK_SECONDS, GENERATION_SECONDS, GENERATIONS, TOKENS

log = logger("orchestrator")

ANSWERED, CUT, CANCELLED = "answered", "cut", "cancelled"

# The caller's end of a call is over: found out while waiting, or by writing to it.
GONE = (asyncio.CancelledError, grpc.aio.BaseError)

# Bound once: looking a child up costs more than counting.
_GENERATIONS = {outcome: GENERATIONS.labels(outcome) for outcome in (ANSWERED, CUT, CANCELLED, *Kind)}
_EMBEDDINGS = {outcome: EMBEDDINGS.labels(outcome) for outcome in (ANSWERED, CANCELLED, *Kind)}
_READ, _WRITTEN = TOKENS.labels("input"), TOKENS.labels("output")


class Watched(AbstractContextManager["Watched"]):
    """One request, from its arrival to its end: counted by its outcome, and told in one line of the log."""

    def __init__(self, name: str, model: str) -> None:
        self._name = name
        self._model = model
        self._started = perf_counter()
        self._first_after: float | None = None
        self._bill: Bill | None = None
        self._outcome: str = CANCELLED
        self._reason: str | None = None

    def first_chunk(self) -> None:
        """Note when the answer began to be one."""
        if self._first_after is None:
            self._first_after = perf_counter() - self._started

    def ended(self, bill: Bill, failure: Failure | None = None) -> None:
        """Note that there is a bill: the answer is over, and with a failure it broke off."""
        self._bill = bill
        self._outcome = ANSWERED if failure is None else CUT
        self._reason = None if failure is None else failure.reason

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GONE):
            self._outcome = error.kind if isinstance(error, ArgosyError) else Kind.INTERNAL
            self._reason = error.reason if isinstance(error, ArgosyError) else None
        self._count(perf_counter() - self._started)

    def _count(self, seconds: float) -> None:
        bill = self._bill
        if self._name == "generation":
            _GENERATIONS[self._outcome].inc()
            GENERATION_SECONDS.observe(seconds)
            if self._first_after is not None:
                FIRST_CHUNK_SECONDS.observe(self._first_after)
        else:
            _EMBEDDINGS[self._outcome].inc()
        if bill is not None:
            _READ.inc(bill.usage.input_tokens or 0)
            _WRITTEN.inc(bill.usage.output_tokens or 0)
        log.info(
            self._name,
            model=self._model,
            outcome=str(self._outcome),
            reason=self._reason,
            seconds=round(seconds, 4),
            first_chunk_seconds=None if self._first_after is None else round(self._first_after, 4),
            input_tokens=None if bill is None else bill.usage.input_tokens,
            output_tokens=None if bill is None else bill.usage.output_tokens,
            cost_nano_usd=None if bill is None else bill.cost,
        )
