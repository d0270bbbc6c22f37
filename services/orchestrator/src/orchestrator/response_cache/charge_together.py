"""Charges cached answers many at a time: one call of metering holds the price of each, and that is the bill.

What an answer consumed is known before it is given. So metering has the usage on record with the money that it holds,
and bills it when the lease is over, whether the event that settles it sooner comes or not. The event is written soon
after the answer was given, together with those of free ones.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.tenancy import Principal
from values.money import ZERO, Price
from values.usage import NO_USAGE

from orchestrator.background_tasks import BackgroundTasks, RequestKey
from orchestrator.reservations.model import HitRequest, ReservedHit
from orchestrator.reservations.ports import MeteringClient
from orchestrator.reservations.reserve import definitely_refused
from orchestrator.response_cache.model import Hit
from orchestrator.response_cache.pace import PacedGroups
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import AttemptUsage, CacheUse, RequestUsage
from orchestrator.usage.record import UsageRecorder

FIRST_ATTEMPT: Final = 1
MAX_TOGETHER: Final = 1_000
"""Hits in one call of metering."""
LEASE: Final = timedelta(seconds=30)
"""Until a hit is billed of which no event tells. Events come within a second; later ones change no bill."""


class Waiting(NamedTuple):
    """A request whose answer waits for its charge."""

    principal: Principal
    request_id: str
    hit: Hit
    model: str
    reserved: asyncio.Future[ReservedHit]

    @property
    def key(self) -> RequestKey:
        return self.principal.tenant_id, self.request_id

    @property
    def wanted(self) -> HitRequest:
        answer = self.hit.answer
        return HitRequest(
            self.principal, self.request_id, answer.price_key, answer.usage, self.hit.percent_off, self.hit.outcome
        )


class GroupedCharges:
    """Holds what hits cost in groups, and lets them be recorded."""

    def __init__(
        self,
        metering: MeteringClient,
        recorder: UsageRecorder,
        hits: HitRecorder,
        tasks: BackgroundTasks,
        timeout: timedelta,
    ) -> None:
        """`timeout` is what metering has to answer; without an answer in this time none is given."""
        self._metering = metering
        self._recorder = recorder
        self._hits = hits
        self._tasks = tasks
        self.timeout = timeout
        self._groups: PacedGroups[Waiting] = PacedGroups(self._start)

    async def charge(self, principal: Principal, request_id: str, hit: Hit, model: str) -> ReservedHit:
        """Hold the price of a hit in the current price book, and let it be recorded. Raises as a reservation.

        A caller that is cancelled before its charge is known pays nothing.
        """
        self._hits.require_room()
        reserved: asyncio.Future[ReservedHit] = asyncio.get_running_loop().create_future()
        self._groups.add(Waiting(principal, request_id, hit, model, reserved))
        return await reserved

    def _start(self, group: list[Waiting]) -> None:
        waiting = [one for one in group if not one.reserved.done()]
        for start in range(0, len(waiting), MAX_TOGETHER):
            part = waiting[start : start + MAX_TOGETHER]
            # Its requests are known as running until each is reserved and noted, or its release is written.
            self._tasks.start(self._reserve(part), *(one.key for one in part))

    async def _reserve(self, group: Sequence[Waiting]) -> None:
        try:
            results = await self._metering.reserve_hits([one.wanted for one in group], LEASE, self.timeout)
        except BaseException as error:
            self._fail(group, error)
            if isinstance(error, ArgosyError):
                return
            raise
        for one, result in zip(group, results, strict=True):
            if isinstance(result, ArgosyError):
                if not one.reserved.done():
                    one.reserved.set_exception(result)
            elif one.reserved.done():
                self._release((one,))
            else:
                attempt = AttemptUsage(FIRST_ATTEMPT, result.price, one.hit.answer.usage)
                principal, use = one.principal, CacheUse(one.hit.outcome, one.model, FIRST_ATTEMPT)
                owner = (principal.tenant_id, principal.project_id, principal.key_id)
                self._hits.add(RequestUsage("", *owner, one.request_id, (attempt,), use))
                one.reserved.set_result(result)

    def _fail(self, group: Sequence[Waiting], error: BaseException) -> None:
        """Give no answer, and release what metering may have held."""
        if not (definitely_refused(error) or is_unknown_method(error)):
            self._release(group)
        if isinstance(error, ArgosyError) and error.kind is Kind.TIMED_OUT:
            raised: Exception = Unavailable("no money could be set aside: metering does not answer")
        else:
            # The cancellation of this task, when the process ends, is none of those that wait.
            raised = error if isinstance(error, Exception) else Unavailable("the service stops")
        for one in group:
            if not one.reserved.done():
                one.reserved.set_exception(raised)

    def _release(self, group: Iterable[Waiting]) -> None:
        """Let events say that these answers were not given."""
        for one in group:
            price = Price(one.hit.answer.price_key, "", ZERO, ZERO)
            released = (AttemptUsage(FIRST_ATTEMPT, price, NO_USAGE),)
            self._tasks.start(self._recorder.record(one.principal, one.request_id, released), one.key)


def is_unknown_method(error: BaseException) -> bool:
    """Whether metering is of the version before, which cannot hold the price of hits together."""
    return isinstance(error, ArgosyError) and error.reason == "UNIMPLEMENTED"
