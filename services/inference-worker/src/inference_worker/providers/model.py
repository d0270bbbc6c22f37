"""How a plan fails.

ArgosyError
├── UpstreamFailed             connect error, 5xx, our credential refused, no such upstream
│   ├── UpstreamRateLimited    429
│   ├── UpstreamTimedOut       silent for too long, or it said so itself (408, 504)
│   ├── UpstreamGarbage        answered, but not in its protocol
│   ├── UpstreamCut            broke off after its answer had begun
│   └── UpstreamRefused        400, 404, 422…: the request itself; another candidate would say the same
└── Stopped                    the caller wanted no more
    └── Draining               the worker is being stopped
"""

from datetime import timedelta
from typing import ClassVar

from chassis.errors import ArgosyError, Kind


class UpstreamFailed(ArgosyError):
    """The upstream could not be reached, failed inside, or did not accept our credential."""

    kind = Kind.UPSTREAM
    reason = "UPSTREAM_FAILED"
    costly: ClassVar[bool] = False
    """Whether the call may have used tokens although no byte of its answer arrived."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        costly: bool | None = None,
        fallback: bool = True,
        again: bool = False,
    ) -> None:
        """`fallback`: the next candidate may do better. `again`: so may this one, at once."""
        super().__init__(message, retry_after=retry_after)
        self.may_have_cost = self.costly if costly is None else costly
        self.fallback = fallback
        self.again = again


class UpstreamRateLimited(UpstreamFailed):
    """The upstream limits its rate, and no other candidate was left."""

    kind = Kind.THROTTLED
    reason = "UPSTREAM_RATE_LIMITED"


class UpstreamTimedOut(UpstreamFailed):
    """The upstream was silent for longer than the plan allows."""

    kind = Kind.TIMED_OUT
    reason = "UPSTREAM_TIMED_OUT"
    costly = True


class UpstreamGarbage(UpstreamFailed):
    """The upstream's answer does not follow its own protocol."""

    reason = "UPSTREAM_GARBAGE"
    costly = True


class UpstreamCut(UpstreamFailed):
    """The upstream broke off after its answer had begun."""

    reason = "UPSTREAM_CUT"
    costly = True


class UpstreamRefused(UpstreamFailed):
    """The upstream refuses the request itself; its own words are in the message."""

    kind = Kind.INVALID
    reason = "UPSTREAM_REFUSED"

    def __init__(self, message: str, *, fallback: bool = False) -> None:
        """With `fallback` only this candidate cannot do what is asked."""
        super().__init__(message, fallback=fallback)


class Stopped(ArgosyError):
    """The caller asked to end the plan early."""

    kind = Kind.CANCELLED
    reason = "STOPPED"

    def __init__(self, message: str = "the caller wants no more") -> None:
        super().__init__(message)


class Draining(Stopped):
    """The worker is being stopped, and the answer would have taken longer than it waits."""

    kind = Kind.UNAVAILABLE
    reason = "SERVICE_UNAVAILABLE"
