"""What jobs need: the orchestrator, a stream of deltas, and telemetry."""

from collections.abc import Callable, Sequence
from typing import Protocol

from chassis.errors import ArgosyError

from inference_worker.jobs.model import ClaimedJob, Dispatch, HeartbeatAnswer, Offer, RunEnd, RunRef, RunResult
from inference_worker.plans.model import Attempt, AttemptStarting


class Orchestrator(Protocol):
    """The owner of jobs. Every method raises an `ArgosyError` when it does not answer, or refuses the call."""

    async def claim(self, dispatch: RunRef, *, unanswered_before: bool = False) -> ClaimedJob:
        """Claim a dispatched job. Raises `NotClaimable`.

        `unanswered_before`: if an earlier claim of this worker was granted, its run is handed back.
        """

    async def find_unclaimed(self, slots: int, free_slots: int) -> Sequence[Offer]:
        """Ask for dispatched jobs of the pool that no worker has claimed."""

    async def stay_connected(self, on_connected: Callable[[], None]) -> None:
        """Hold a connection with one replica, and return when that ends it; call `on_connected` when it holds."""

    async def start_attempt(self, run: RunRef, attempt: AttemptStarting) -> None:
        """Record a provider call before it is made. Raises `LeaseLost`."""

    async def heartbeat(self, slots: int, runs: Sequence[RunRef]) -> HeartbeatAnswer:
        """Extend the leases of all runs, and advertise the slots: 0 while the worker drains."""

    async def complete(self, run: RunRef, result: RunResult) -> None:
        """End a run. Safe to repeat. Raises `LeaseLost`."""

    async def give_back(self, run: RunRef, attempts: Sequence[Attempt]) -> None:
        """Return a job that this worker cannot finish. Safe to repeat. Raises `LeaseLost`."""


class Deltas(Protocol):
    """Live pieces of answers, for those who watch. They may be lost; no method waits or raises."""

    def append(self, run: RunRef, payloads: Sequence[bytes]) -> None: ...

    def end(self, run: RunRef) -> None:
        """Write what is buffered, and forget the run."""


class JobObserver(Protocol):
    """Records jobs as metrics and log lines. Never raises."""

    def claimed(self, dispatch: Dispatch, claimed: ClaimedJob, seconds: float) -> None: ...

    def not_claimable(self, dispatch: Dispatch) -> None: ...

    def retried(self, run: RunRef, step: str, error: ArgosyError) -> None: ...

    def run_failed(self, run: RunRef, error: Exception) -> None:
        """A bug ended a run."""

    def ended(self, run: RunRef, end: RunEnd, result: RunResult | None, seconds: float) -> None: ...
