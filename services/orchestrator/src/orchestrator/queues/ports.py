"""The port of queues."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.queues.model import PauseSelector, QueueFigures


class QueueStore(Protocol):
    """All methods raise `Unavailable`."""

    async def read_figures(self) -> Sequence[QueueFigures]:
        """Read all queues that have jobs or workers, at one instant, by pool and lane. Cheap at any number of jobs."""
        ...

    async def list_pauses(self) -> Sequence[PauseSelector]:
        """All pauses, the oldest first."""
        ...

    async def pause(self, selector: PauseSelector) -> None:
        """Add a pause; does nothing when it exists."""
        ...

    async def resume(self, selector: PauseSelector) -> None:
        """Remove exactly this pause; does nothing when there is none."""
        ...
