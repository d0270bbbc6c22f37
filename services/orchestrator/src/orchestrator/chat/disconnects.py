"""What happens to a plan whose client has left, by policy."""

import asyncio
from datetime import timedelta

from orchestrator.limits import DisconnectPolicy, Limits
from orchestrator.workers.ports import InferenceCall


class PlanAbort:
    """Stops one plan, once, while it runs."""

    __slots__ = ("_call", "_limit", "_timeout", "ended", "requested")

    def __init__(self, call: InferenceCall, limit: asyncio.Timeout, timeout: timedelta) -> None:
        """`timeout` is what the worker has to report the usage; then `limit` expires."""
        self._call = call
        self._limit = limit
        self._timeout = timeout
        self.ended = False
        self.requested = False

    def __call__(self) -> None:
        if self.ended or self.requested:
            return
        self.requested = True
        self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout.total_seconds())
        self._call.stop()


class Disconnects:
    """Aborts the plans of clients that leave, or lets them run to their end.

    A drained plan keeps its concurrency slot. It ends at its deadline, or when the service stops.
    """

    def __init__(self, limits: Limits) -> None:
        self._streamed, self._non_streamed = limits.streamed_disconnect, limits.non_streamed_disconnect
        self._drained: set[PlanAbort] = set()
        self._stopped = False
        self.stopping = False
        """Whether the service drains: what is aborted from now on is not the clients' doing."""

    def client_left(self, abort: PlanAbort, *, stream: bool) -> None:
        """Abort the plan, or let it run on."""
        policy = self._streamed if stream else self._non_streamed
        if policy is DisconnectPolicy.ABORT or self._stopped:
            abort()
        elif not abort.ended:
            self._drained.add(abort)

    def plan_ended(self, abort: PlanAbort) -> None:
        """Forget a plan that is over."""
        abort.ended = True
        self._drained.discard(abort)

    def begin_stop(self) -> None:
        """Note that the service drains."""
        self.stopping = True

    def abort_all(self) -> None:
        """Abort all drained plans, so that their usage is written before the process exits."""
        self._stopped = True
        for abort in tuple(self._drained):
            abort()
