"""How replicas and workers learn of offers."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.jobs.rounds import Offer


class PushSignals(Protocol):
    """Tells all orchestrators and workers, at once. It may lose signals, and never raises."""

    def ended(self, worker_id: str, pool: str) -> None:
        """Tell the other replicas that the connection of a worker has ended."""

    def offer(self, worker_id: str, pool: str, offers: Sequence[Offer]) -> None:
        """Name jobs to a worker; without any, it asks for those that no worker has claimed."""


class NoPushSignals:
    """Does nothing: workers find jobs by asking."""

    def ended(self, worker_id: str, pool: str) -> None:
        pass

    def offer(self, worker_id: str, pool: str, offers: Sequence[Offer]) -> None:
        pass
