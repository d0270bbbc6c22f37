"""Which errors of a peer prove that it did nothing."""

from chassis.errors import ArgosyError, Kind, RemoteError

# With one of these kinds a peer refuses a call before it acts. All other kinds leave open how far it got.
_REFUSALS = frozenset(
    {
        Kind.INVALID,
        Kind.UNAUTHENTICATED,
        Kind.DENIED,
        Kind.NOT_FOUND,
        Kind.EXPIRED,
        Kind.CONFLICT,
        Kind.UNPROCESSABLE,
        Kind.TOO_LARGE,
        Kind.EXHAUSTED,
        Kind.THROTTLED,
        Kind.UNAVAILABLE,
    }
)


class WorkerOutdated(ArgosyError):
    """The inference worker is of an older version that cannot do this yet. Nothing was called, and nothing is billed.

    Try again when the workers have been updated.
    """

    kind, reason = Kind.UNAVAILABLE, "WORKER_OUTDATED"


def is_refusal(error: BaseException) -> bool:
    """Whether the peer itself refused the call, so that certainly nothing was done.

    A peer that times out or disconnects may have done what it was asked.
    """
    return isinstance(error, WorkerOutdated) or (isinstance(error, RemoteError) and error.kind in _REFUSALS)
