"""The port of the usage feature."""

from typing import Protocol

from orchestrator.usage.model import RequestUsage


class UsageOutbox(Protocol):
    """Durable storage of usage events."""

    async def write(self, usage: RequestUsage) -> None:
        """Write the event durably; writing it again changes nothing. Raises `Unavailable`."""
