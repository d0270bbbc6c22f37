"""The ports of the usage feature."""

from collections.abc import Collection, Sequence
from typing import Protocol

from orchestrator.background_tasks import RequestKey
from orchestrator.usage.model import Hits, RequestUsage


class UsageOutbox(Protocol):
    """Durable storage of usage events."""

    async def write(self, usage: RequestUsage) -> None:
        """Write the event durably; writing it again changes nothing. Raises `Unavailable`."""

    async def find_pending(self, requests: Collection[RequestKey]) -> set[RequestKey]:
        """Return those of the requests, of any tenant, whose events wait to be published. Raises `Unavailable`."""


class HitOutbox(Protocol):
    """Durable storage of cached answers."""

    async def write_hits(self, together: Sequence[Hits]) -> None:
        """Write all durably; writing them again changes nothing. Raises `Unavailable`."""


class RunningJobs(Protocol):
    """Jobs that workers run."""

    async def running_requests(self, requests: Collection[RequestKey]) -> set[RequestKey]:
        """Return those of the requests, of any tenant, that are runs of jobs. Raises `Unavailable`."""
