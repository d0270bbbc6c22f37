"""Reserves the most that a request can cost, and releases it when it is unknown whether metering did."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.tenancy import Principal
from values.money import NanoUsd

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.errors import is_refusal
from orchestrator.limits import Deadline, Limits
from orchestrator.reservations.model import AttemptStart, Reservation, TokenBound
from orchestrator.reservations.ports import MeteringClient
from orchestrator.usage.record import UsageRecorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservations:
    """Reserves money in the budget of the caller's tenant."""

    metering: MeteringClient
    recorder: UsageRecorder
    tasks: BackgroundTasks
    limits: Limits
    discount_percent: int = 0
    """Taken off the prices; other than 0 for requests of services only."""

    async def reserve(
        self, principal: Principal, request_id: str, bounds: Sequence[TokenBound], deadline: Deadline
    ) -> Reservation:
        """Return the reservation. Raises what metering raises, and `Unavailable` when it does not answer in time.

        When metering may have reserved without an answer, or the client disconnects meanwhile, an event without
        attempts releases the money: the tenant need not wait for the lease to expire.
        """
        remaining = deadline.remaining()
        lease = self.limits.lease(remaining)
        timeout = min(remaining, self.limits.reserve_timeout)
        try:
            return await self.metering.reserve(request_id, bounds, lease, timeout, self.discount_percent)
        except BaseException as error:
            if not definitely_refused(error):
                request = (principal.tenant_id, request_id)
                self.tasks.start(self.recorder.record(principal, request_id, ()), request)
            if isinstance(error, ArgosyError) and error.kind is Kind.TIMED_OUT and deadline.left():
                # Our timeout expired, not the request's deadline: metering is down.
                raise Unavailable("no money could be set aside: metering does not answer") from error
            raise

    async def start_attempt(self, principal: Principal, start: AttemptStart) -> NanoUsd:
        """Record that a provider call is about to be made, and return what is held now. Raises what metering raises."""
        return await self.metering.start_attempt(principal, start, self.limits.reserve_timeout)


def definitely_refused(error: BaseException) -> bool:
    """Whether metering certainly recorded nothing.

    An unavailable metering may have lost its database during the commit.
    """
    return is_refusal(error) and not (isinstance(error, ArgosyError) and error.kind is Kind.UNAVAILABLE)
