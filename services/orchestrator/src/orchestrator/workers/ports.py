"""The ports of the workers feature."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from orchestrator.workers.model import EmbeddingPlan, EmbeddingResult, Event, Plan, RerankPlan, RerankResult


class InferenceCall(Protocol):
    """A plan that a worker runs."""

    async def read(self) -> Event:
        """Wait for the next event; the last is `Finished`.

        Raises `RemoteError` for an error of the worker, `Unavailable` or `DeadlineExceeded` when the call broke off.
        """

    async def proceed(self, attempt: int) -> None:
        """Allow the provider call that `AttemptStarting` announced."""

    def stop(self) -> None:
        """Ask the worker to end the plan early, without waiting. `Finished` still follows."""


class WorkerClient(Protocol):
    """Runs plans on inference workers."""

    async def wait_ready(self, timeout: timedelta) -> None:
        """Wait for a connection to a worker.

        Raises `Unavailable` when there is none in time, `DeadlineExceeded` without any time: nothing was started.
        """

    def infer(self, plan: Plan) -> AbstractAsyncContextManager[InferenceCall]:
        """Run `plan` inside the block. Leaving it before `Finished` aborts the plan, and its attempts are lost."""

    async def embed(self, plan: EmbeddingPlan) -> EmbeddingResult:
        """Embed the inputs by the plan's only candidate, in one provider call. Raises as `InferenceCall.read`."""

    async def rerank(self, plan: RerankPlan) -> RerankResult:
        """Score the documents by the plan's only candidate, in one provider call. Raises as `InferenceCall.read`."""
