"""How a request fails here.

ArgosyError
├── ModelNotFound              no route of that name for this tenant
├── RequestTooLarge            more than can be sent to a worker
├── InvalidRequest             what we decide on is wrong in the body; the rest is the provider's to judge
├── Unavailable                a service that this request needs does not answer
└── RemoteFailure              what metering, retrieval or the worker said, passed on as it is
"""

from chassis.errors import ArgosyError, Kind, RemoteError


class ModelNotFound(ArgosyError):
    """No route of that name exists for this tenant, or its model cannot do what was asked."""

    kind, reason = Kind.NOT_FOUND, "MODEL_NOT_FOUND"


class RequestTooLarge(ArgosyError):
    """The request, with its context and for all its candidates, is more than can be sent to a worker."""

    kind, reason = Kind.TOO_LARGE, "REQUEST_TOO_LARGE"


# What the reasons of a failed plan mean; whatever the worker learns to say later is a provider's failure.
_KINDS = {
    "UPSTREAM_RATE_LIMITED": Kind.THROTTLED,
    "UPSTREAM_TIMED_OUT": Kind.TIMED_OUT,
    "UPSTREAM_REFUSED": Kind.INVALID,
    "INVALID_REQUEST": Kind.INVALID,
    "DEADLINE_EXCEEDED": Kind.TIMED_OUT,
    "SERVICE_UNAVAILABLE": Kind.UNAVAILABLE,
    "STOPPED": Kind.CANCELLED,
}

# A peer that says one of these looked at the request and refused it. Whatever else it says leaves open how far it got.
_REFUSALS = frozenset(
    {
        Kind.INVALID,
        Kind.UNAUTHENTICATED,
        Kind.DENIED,
        Kind.NOT_FOUND,
        Kind.CONFLICT,
        Kind.TOO_LARGE,
        Kind.EXHAUSTED,
        Kind.THROTTLED,
        Kind.UNAVAILABLE,
    }
)


def failed_plan(reason: str, message: str) -> RemoteError:
    """Return the error for a plan that failed before the first byte of an answer."""
    return RemoteError(_KINDS.get(reason, Kind.UPSTREAM), reason, message)


def is_refusal(error: BaseException) -> bool:
    """Whether a peer itself said no, so that certainly nothing was done.

    A peer that is silent or breaks off may have done what it was asked.
    """
    return isinstance(error, RemoteError) and error.kind in _REFUSALS
