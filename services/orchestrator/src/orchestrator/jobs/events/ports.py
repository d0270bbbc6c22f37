"""The log of a job's recent events. It may be lost at any time: the store has the truth."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from orchestrator.jobs.events.model import JobEvent
from orchestrator.jobs.model import JobKey


class Arrivals(Protocol):
    """Waits for events of one job."""

    async def wait(self, seconds: float) -> None:
        """Wait until events arrived since the last call, or the time is over."""
        ...


class JobEventLog(Protocol):
    """Reads raise `Unavailable`."""

    async def read(self, key: JobKey, after: str) -> Sequence[JobEvent]:
        """Return some of the events after an id, in their order; none when there is nothing newer. Does not wait."""
        ...

    async def contains(self, key: JobKey, event_id: str) -> bool:
        """Whether the event is in the log, and with it all that came after it."""
        ...

    def follow(self, key: JobKey, after: str) -> AbstractContextManager[Arrivals]:
        """Be woken by events after an id. Without the log nothing arrives."""
        ...
