"""Answering a chat completion: prepare, infer, finalize."""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import ArgosyError, Internal

from orchestrator.domain.finalize import Bill, finalize
from orchestrator.domain.infer import infer, lost
from orchestrator.domain.outlet import Outlet
from orchestrator.domain.policy import Policy
from orchestrator.domain.ports import Bodies, Failure, Payloads, Retrieval, Routes, Worker
from orchestrator.domain.prepare import Prepared, prepare
from orchestrator.domain.prompt import Source
from orchestrator.domain.record import Recorder
from orchestrator.domain.request import ChatRequest
from orchestrator.domain.reserve import Reserves
from orchestrator.domain.tasks import Tasks


class Begun(NamedTuple):
    """The answer begins."""

    sources: Sequence[Source]
    soft_limit_passed: bool


class Done(NamedTuple):
    """The answer is over and its usage recorded; with a failure it broke off."""

    bill: Bill
    failure: Failure | None = None
    usage_payload: bytes = b""


Step = Begun | Payloads | Done


class _End(NamedTuple):
    """How a plan that ran ended."""

    done: Done
    error: ArgosyError | None


class Generations:
    """Answers chat completions."""

    def __init__(
        self,
        *,
        routes: Routes,
        bodies: Bodies,
        retrieval: Retrieval,
        reserves: Reserves,
        worker: Worker,
        recorder: Recorder,
        tasks: Tasks,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._routes = routes
        self._bodies = bodies
        self._retrieval = retrieval
        self._reserves = reserves
        self._worker = worker
        self._recorder = recorder
        self._tasks = tasks
        self._clock = clock
        self._policy = policy

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        """Answer in steps: Begun once, payloads, Done once. Before the first payload it raises instead.

        Close it, or cancel its reader, to hang up: what was used is recorded and billed all the same, in its own task.
        """
        with self._tasks.admitted():
            prepared = await prepare(
                request,
                routes=self._routes,
                bodies=self._bodies,
                retrieval=self._retrieval,
                reserves=self._reserves,
                clock=self._clock,
                policy=self._policy,
            )
            # Nothing is awaited between the reservation and this: whatever happens now, somebody settles it.
            outlet: Outlet[_End] = Outlet(self._policy.waiting_bytes, at_once=request.stream)
            run = self._tasks.start(self._run(prepared, outlet))
        try:
            begun = False
            while True:
                said = await outlet.take()
                if not begun:
                    if isinstance(said, _End) and said.error is not None:
                        raise said.error
                    begun = True
                    yield Begun(prepared.sources, prepared.reservation.soft_limit_passed)
                if isinstance(said, _End):
                    yield said.done
                    return
                yield Payloads(said)
        finally:
            outlet.abandon()
            self._tasks.leave(run)

    async def _run(self, prepared: Prepared, outlet: Outlet[_End]) -> None:
        try:
            outlet.end(await self._ended(prepared, outlet))
        except BaseException as error:
            outlet.fail(error)
            raise

    async def _ended(self, prepared: Prepared, outlet: Outlet[_End]) -> _End:
        request, reservation = prepared.request, prepared.reservation
        try:
            try:
                ending = await infer(prepared.plan, outlet, worker=self._worker, hang_up=self._policy.hang_up)
            finally:
                # Before anything else is awaited: a plan that is over can no longer be told to stop.
                outlet.over()
        except Exception:
            # A bug. It is no reason to leave a provider's call unsettled.
            await finalize(request, reservation, lost(Internal("internal error")).finished, recorder=self._recorder)
            raise
        bill = await finalize(request, reservation, ending.finished, recorder=self._recorder)
        failure = None if ending.error is None else Failure(ending.error.reason, ending.error.message)
        return _End(Done(bill, failure, ending.finished.usage_payload), ending.error)
