"""Setting money aside, and taking that back when nobody knows whether it was done."""

from collections.abc import Sequence

from chassis.errors import ArgosyError, Kind, Unavailable

from orchestrator.domain.deadline import Deadline
from orchestrator.domain.errors import is_refusal
from orchestrator.domain.finalize import settlement
from orchestrator.domain.plan import Candidate
from orchestrator.domain.policy import Policy
from orchestrator.domain.ports import Metering, Reservation
from orchestrator.domain.record import Recorder
from orchestrator.domain.request import ChatRequest, EmbedRequest
from orchestrator.domain.tasks import Tasks


class Reserves:
    """Sets the most that a request can cost aside, in the caller's budget."""

    def __init__(self, *, metering: Metering, recorder: Recorder, tasks: Tasks, policy: Policy) -> None:
        self._metering = metering
        self._recorder = recorder
        self._tasks = tasks
        self._policy = policy

    async def reserve(
        self, request: ChatRequest | EmbedRequest, candidates: Sequence[Candidate], deadline: Deadline
    ) -> Reservation:
        """Return what metering set aside, or raise what it said.

        When it decides nothing, or the caller goes away meanwhile, the money may be aside: it is released, so that the
        tenant does not have to wait for the lease to run out.
        """
        time = deadline.remaining()
        lease = self._policy.lease + time
        bounds = [candidate.bound for candidate in candidates]
        try:
            return await self._metering.reserve(request.request_id, bounds, lease, min(time, self._policy.reserve))
        except BaseException as error:
            if not _is_no(error):
                self._tasks.start(self._recorder.record(settlement(request, ())))
            if isinstance(error, ArgosyError) and error.kind is Kind.TIMED_OUT and deadline.left():
                # It was our limit, not the caller's: metering is down, and no money is no request.
                raise Unavailable("no money could be set aside: metering does not answer") from error
            raise


def _is_no(error: BaseException) -> bool:
    """Whether certainly nothing was set aside. Metering that is unavailable may have lost its database mid-commit."""
    return is_refusal(error) and not (isinstance(error, ArgosyError) and error.kind is Kind.UNAVAILABLE)
