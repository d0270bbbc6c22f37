"""Record administrative writes with their outcome: those of other services, and refused ones to the schema identity."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from chassis.clock import Clock
from chassis.errors import ArgosyError, Kind
from chassis.tenancy import Caller
from values.roles import PLATFORM_ADMIN

from gateway.audit.model import AuditEntry, AuditLog, Outcome, caller_entry

T = TypeVar("T")

# After these errors the other service may have made the write, or may yet make it.
UNCLEAR = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.CANCELLED, Kind.INTERNAL, Kind.UPSTREAM})


class RecordAudit:
    """Makes a write between two steps of its entry: `unknown` before it, so that no write is missing, then the outcome.

    An entry stays `unknown` when the answer does not arrive, or this process ends before it.
    """

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def __call__(
        self,
        caller: Caller,
        tenant_id: str,
        action: str,
        target: str,
        write: Callable[[], Awaitable[T]],
        **detail: str,
    ) -> T:
        """Return the result of `write`. Raises its error, PermissionDenied, TenantNotFound."""
        caller.principal.require(PLATFORM_ADMIN)
        entry = caller_entry(caller, self._clock.now(), tenant_id, action, target, **detail)
        await self._log.add_entry(replace(entry, outcome="unknown"))
        try:
            result = await write()
        except ArgosyError as error:
            outcome: Outcome = "unknown" if error.kind in UNCLEAR else "refused"
            await self._log.set_outcome(replace(entry, outcome=outcome, reason=error.code))
            raise
        await self._log.set_outcome(entry)
        return result


class RecordRefusal:
    """Adds an entry for a write to the schema identity that is refused: its own entry is undone with it."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    @asynccontextmanager
    async def __call__(self, entry: AuditEntry) -> AsyncIterator[None]:
        """Record the error of the block, unless the write may have been made."""
        try:
            yield
        except ArgosyError as error:
            if error.kind not in UNCLEAR:
                await self._log.add_refusal(replace(entry, outcome="refused", reason=error.code))
            raise
