"""How a provider call fails, and what an embedding call returns.

ArgosyError
└── UpstreamFailed              connect error, 5xx, our credential rejected, no such upstream
    ├── UpstreamRateLimited     429
    ├── UpstreamTimedOut        no byte within the timeout, or status 408 or 504
    ├── UpstreamProtocolError   a response that does not follow the provider's protocol
    ├── UpstreamInterrupted     the response ended early
    └── UpstreamRejected        400, 404, 422…: the request itself; other candidates would reject it too
"""

from dataclasses import dataclass
from datetime import timedelta

from chassis.errors import ArgosyError, Kind
from values.usage import TokenUsage


class UpstreamFailed(ArgosyError):
    """The upstream could not be reached, failed inside, or did not accept our credential."""

    kind = Kind.UPSTREAM
    reason = "UPSTREAM_FAILED"
    maybe_billed: bool = False
    """Whether the call may have used tokens although no byte of its response arrived."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        maybe_billed: bool | None = None,
        fallback: bool = True,
        retry_same: bool = False,
    ) -> None:
        """`fallback`: the next candidate may succeed. `retry_same`: this one may, at once."""
        super().__init__(message, retry_after=retry_after)
        if maybe_billed is not None:
            self.maybe_billed = maybe_billed
        self.fallback = fallback
        self.retry_same = retry_same
        self.usage: TokenUsage | None = None
        """What the upstream reported beside its error."""


class UpstreamRateLimited(UpstreamFailed):
    """The upstream limits its rate, and no other candidate was left."""

    kind = Kind.THROTTLED
    reason = "UPSTREAM_RATE_LIMITED"


class UpstreamTimedOut(UpstreamFailed):
    """The upstream sent nothing for longer than the plan allows."""

    kind = Kind.TIMED_OUT
    reason = "UPSTREAM_TIMED_OUT"
    maybe_billed = True


class UpstreamProtocolError(UpstreamFailed):
    """The upstream's response does not follow its own protocol."""

    reason = "UPSTREAM_INVALID_RESPONSE"
    maybe_billed = True


class UpstreamInterrupted(UpstreamFailed):
    """The upstream's response was interrupted after it had begun."""

    reason = "UPSTREAM_INTERRUPTED"
    maybe_billed = True


class UpstreamRejected(UpstreamFailed):
    """The upstream rejects the request itself; the message is the upstream's own."""

    kind = Kind.INVALID
    reason = "UPSTREAM_REJECTED"

    def __init__(self, message: str, *, fallback: bool = False) -> None:
        """With `fallback` only this candidate lacks what the request needs."""
        super().__init__(message, fallback=fallback)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, each little-endian 32-bit floats, and the usage if the upstream reported it."""

    vectors: tuple[bytes, ...]
    usage: TokenUsage | None
