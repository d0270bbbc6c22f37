"""The provider calls of one request: which were made, and on record before they were."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from chassis.errors import Internal
from chassis.tenancy import Principal
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause, TokenUsage

from orchestrator.reservations.model import AttemptStart, Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations, definitely_refused
from orchestrator.usage.model import Attempt, AttemptUsage, RightSizingUse


class AttemptsRecord(NamedTuple):
    """The provider calls of a request at one moment, for a request that outlives the process that prepared it."""

    reservation: Reservation
    bounds: tuple[TokenBound, ...]
    ended: tuple[Attempt, ...] = ()
    reported: int = 0
    """How many of `ended` metering knows."""
    running: tuple[int, int] | None = (1, 0)
    """Number and candidate of the call that may be running."""
    unmade: tuple[Attempt, ...] = ()
    """Those that metering may have on record, and that were not made."""


class AttemptLog:
    """The provider calls of one request, and what they cost. Pure: what is on record elsewhere is its caller's."""

    __slots__ = ("_bounds", "_ended", "_reported", "_running", "_unmade", "reservation")

    def __init__(self, reservation: Reservation, bounds: Sequence[TokenBound]) -> None:
        """`bounds` are those of the reservation."""
        self._bounds = bounds
        self.reservation = reservation
        """With what is held now."""
        self._ended: list[Attempt] = []
        self._reported = 0
        self._running: tuple[int, int] | None = (1, 0)
        self._unmade: list[Attempt] = []

    def record(self) -> AttemptsRecord:
        """Return the state of now."""
        return AttemptsRecord(
            self.reservation,
            tuple(self._bounds),
            tuple(self._ended),
            self._reported,
            self._running,
            tuple(self._unmade),
        )

    @classmethod
    def restored(cls, record: AttemptsRecord) -> "AttemptLog":
        """Go on from a record."""
        return AttemptLog(record.reservation, record.bounds)._restore(record)

    def _restore(self, record: AttemptsRecord) -> Self:
        self._ended, self._reported = list(record.ended), record.reported
        self._running, self._unmade = record.running, list(record.unmade)
        return self

    def end(self, attempts: Sequence[Attempt]) -> None:
        """Note the attempts that have ended; none runs now. Raises `Internal` for one of no candidate of the plan."""
        self._check(attempts)
        self._ended += attempts
        self._running = None

    def announce(self, number: int, candidate: int) -> None:
        """Note the next attempt, which is not made before it is on record, and `allow`. Raises `Internal` as `end`."""
        attempt = Attempt(number, candidate, NO_USAGE)
        self._check((attempt,))
        self._unmade.append(attempt)

    def allow(self) -> None:
        """Note that the attempt that was started is made from now on."""
        attempt = self._unmade.pop()
        self._running = (attempt.number, attempt.candidate)

    def refused(self) -> tuple[Attempt, ...]:
        """Return the attempts of a request whose worker refused the running one, so that it was not made."""
        if self._running is not None and self._running[0] > 1:
            self._unmade.append(Attempt(*self._running, NO_USAGE))
        self._running = None
        return self.unknown_usage()

    def unknown_usage(self) -> tuple[Attempt, ...]:
        """Return the attempts of a request whose worker is gone: the running one may have cost something."""
        if self._running is None:
            return self._complete(self._ended)
        return self._complete((*self._ended, Attempt(*self._running, UNKNOWN_USAGE, ExposureCause.FLEET)))

    def finished(self, attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """Return the attempts of a plan that its worker finished with `attempts`, which are all that were made."""
        self._check(attempts)
        return self._complete(attempts)

    def _check(self, attempts: Sequence[Attempt]) -> None:
        candidates = len(self.reservation.prices)
        for attempt in attempts:
            if not 0 <= attempt.candidate < candidates:
                raise Internal("the worker reported an attempt of a candidate that the plan does not have")

    def _complete(self, made: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """Add those that metering may have on record and that were not made: they are released."""
        if not self._unmade:
            return tuple(made)
        numbers = {attempt.number for attempt in made}
        return (*made, *(attempt for attempt in self._unmade if attempt.number not in numbers))

    def priced(self, attempts: Sequence[Attempt]) -> tuple[AttemptUsage, ...]:
        """Return the attempts at the prices that were agreed when the request was reserved."""
        prices = self.reservation.prices
        # Lists: of one or two elements, a generator costs more than what it makes.
        return tuple(
            [AttemptUsage(one.number, prices[one.candidate], one.usage, one.exposure_cause) for one in attempts]
        )

    def right_sized(self, model: str, made: Sequence[Attempt], *, answered: bool) -> RightSizingUse | None:
        """Return the calls of cheap candidates that an easy request made before any other; None when there are none.

        `answered` says whether the client got the answer of the last call, or left while it ran.
        """
        cheap = self.reservation.cheap
        numbers = tuple(one.number for one in made if one.candidate < cheap) if cheap else ()
        if not numbers:
            return None
        last = max((one for one in made if one.usage.known != (0, 0)), key=lambda one: one.number, default=None)
        answer = last.number if answered and last is not None and last.candidate < cheap else 0
        return RightSizingUse(model, self.reservation.prices[cheap], numbers, answer)

    def bounded(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Return the attempts with what the tenant pays for at most: usage above the bound is taken at it."""
        for one in attempts:
            if not _is_within(one.usage, self._bounds[one.candidate]):
                break
        else:
            return attempts
        return [one._replace(usage=_clamp(one.usage, self._bounds[one.candidate])) for one in attempts]


class RequestAttempts(AttemptLog):
    """The provider calls of one request, recorded at metering.

    The reservation stands for the first, which is of candidate 0. Each later one is recorded at metering before it is
    made: whatever dies, metering settles every call that a provider may have received.
    """

    __slots__ = ("_principal", "_request_id", "_reservations")

    def __init__(
        self,
        reservations: Reservations,
        principal: Principal,
        request_id: str,
        reservation: Reservation,
        bounds: Sequence[TokenBound],
    ) -> None:
        """`bounds` are those of the reservation."""
        super().__init__(reservation, bounds)
        self._reservations = reservations
        self._principal = principal
        self._request_id = request_id

    @classmethod
    def resumed(cls, reservations: Reservations, principal: Principal, request_id: str, record: AttemptsRecord) -> Self:
        """Go on from a record of the same request."""
        return cls(reservations, principal, request_id, record.reservation, record.bounds)._restore(record)

    async def start(self) -> None:
        """Record at metering that the announced attempt is about to be made. Raises what metering raises."""
        number, candidate = self._unmade[-1][:2]
        ended, self._reported = self._ended[self._reported :], len(self._ended)
        start = AttemptStart(self._request_id, number, candidate, self.priced(ended))
        try:
            held = await self._reservations.start_attempt(self._principal, start)
        except BaseException as error:
            if definitely_refused(error):
                self._unmade.pop()
            raise
        self.reservation = self.reservation._replace(held=held)


def _is_within(usage: TokenUsage, bound: TokenBound) -> bool:
    return (usage.input_tokens or 0) <= bound.input_tokens and (usage.output_tokens or 0) <= bound.output_tokens


def _clamp(usage: TokenUsage, bound: TokenBound) -> TokenUsage:
    if usage.known is None:
        return usage
    return usage.clamped(bound.input_tokens, bound.output_tokens)
