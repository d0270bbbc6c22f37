"""Errors have a kind (what the caller can do) and a reason (what happened), and are independent of the transport.

    ArgosyError
    ├── InvalidRequest      INVALID      the caller must change the request
    ├── PermissionDenied    DENIED       the caller lacks a role
    ├── Unavailable         UNAVAILABLE  a dependency does not answer
    ├── DeadlineExceeded    TIMED_OUT    the caller's deadline has passed
    ├── Internal            INTERNAL     a bug; the details are in the log
    ├── RemoteError         (any)        the error of another service, passed on unchanged
    └── …                   each feature adds its own

`chassis.grpc.STATUS` and `HTTP_STATUS` map every kind to a status. Reasons are part of the public API: they
never change their meaning. `declared_errors` lists the errors of all imported modules.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
NO_DETAILS: Final[Mapping[str, str]] = MappingProxyType({})


class Kind(StrEnum):
    """What a caller can do about an error."""

    INVALID = "invalid"  # change the request
    UNAUTHENTICATED = "unauthenticated"  # authenticate
    DENIED = "denied"  # get a role
    NOT_FOUND = "not_found"
    EXPIRED = "expired"  # it existed, and is not kept any longer
    CONFLICT = "conflict"  # it was changed concurrently, or it exists
    UNPROCESSABLE = "unprocessable"  # well-formed, and contradicts what the caller asked for before
    TOO_LARGE = "too_large"
    EXHAUSTED = "exhausted"  # a quota is used up: waiting does not help
    THROTTLED = "throttled"  # too many requests: waiting helps
    CANCELLED = "cancelled"  # by the caller
    UPSTREAM = "upstream"  # a provider outside of Argosy failed
    UNAVAILABLE = "unavailable"  # try again later
    TIMED_OUT = "timed_out"
    INTERNAL = "internal"  # a bug


HTTP_STATUS: Final[dict[Kind, int]] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.DENIED: 403,
    Kind.NOT_FOUND: 404,
    Kind.EXPIRED: 410,
    Kind.CONFLICT: 409,
    Kind.UNPROCESSABLE: 422,
    Kind.TOO_LARGE: 413,
    Kind.EXHAUSTED: 429,
    Kind.THROTTLED: 429,
    Kind.CANCELLED: 499,
    Kind.INTERNAL: 500,
    Kind.UPSTREAM: 502,
    Kind.UNAVAILABLE: 503,
    Kind.TIMED_OUT: 504,
}
"""Of RFC 9110; 499 is nginx'. Batches write it to files, so it is not only the HTTP server's."""

# Messages of these kinds may quote the request or a provider, and so a prompt. They are for the caller only and are
# never logged or traced.
CONTAINS_USER_CONTENT = frozenset({Kind.INVALID, Kind.UPSTREAM})


class ArgosyError(Exception):
    """Root of all expected errors. A subclass has a `kind`, a `reason`, and a docstring for the reference page."""

    kind: Kind
    reason: str
    public: ClassVar[bool] = True

    def __init_subclass__(cls, *, abstract: bool = False, public: bool = True) -> None:
        """Refuse a state that cannot be documented.

        `abstract` classes are never raised themselves. Errors with `public=False` never reach a client (failures at
        start-up, internal control flow) and stay out of the reference page.
        """
        super().__init_subclass__()
        cls.public = public
        if abstract:
            return
        if not isinstance(getattr(cls, "kind", None), Kind):
            raise TypeError(f"{cls.__qualname__}: kind must be a Kind")
        if not REASON.fullmatch(cls.__dict__.get("reason", "")):
            raise TypeError(f"{cls.__qualname__}: needs a reason of its own, in UPPER_SNAKE")
        if not (cls.__dict__.get("__doc__") or "").strip():
            raise TypeError(f"{cls.__qualname__}: needs a docstring, it is the reference text")

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: timedelta | None = None,
        details: Mapping[str, str] = NO_DETAILS,
    ) -> None:
        """`message` is a sentence for people, `param` the part of the request at fault.

        `details` are for the calling service: they travel with the error, and clients do not see them.
        """
        super().__init__(message)
        self.details = details
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """The reason in lower case, as clients see it."""
        return self.reason.lower()

    def __str__(self) -> str:
        return self.message


class InvalidRequest(ArgosyError):
    """The request is invalid; `param` names the part at fault."""

    kind, reason = Kind.INVALID, "INVALID_REQUEST"


class PermissionDenied(ArgosyError):
    """The caller lacks the role that this request needs."""

    kind, reason = Kind.DENIED, "PERMISSION_DENIED"


class Unavailable(ArgosyError):
    """A part that this request needs does not answer; try again."""

    kind, reason = Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE"


class DeadlineExceeded(ArgosyError):
    """The deadline passed before the response was complete."""

    kind, reason = Kind.TIMED_OUT, "DEADLINE_EXCEEDED"


class Internal(ArgosyError):
    """A bug in Argosy. The message has no details; the log has them under the request's id."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class RemoteError(ArgosyError, abstract=True):
    """The error of another service, with its kind, reason, message and param."""

    def __init__(
        self,
        kind: Kind,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: timedelta | None = None,
        details: Mapping[str, str] = NO_DETAILS,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after, details=details)
        self.kind = kind
        self.reason = reason


def declared_errors(*, public_only: bool = False) -> list[type[ArgosyError]]:
    """List the concrete errors of all imported modules by reason; `public_only` leaves out what no client can meet."""
    errors = (cls for cls in _concrete(ArgosyError) if cls.public or not public_only)
    return sorted(errors, key=lambda cls: (cls.reason, cls.__module__))


def meaning(cls: type[ArgosyError]) -> str:
    """Return an error's text for the reference page."""
    return inspect.cleandoc(cls.__doc__ or "")


def _concrete(cls: type[ArgosyError]) -> Iterator[type[ArgosyError]]:
    for child in cls.__subclasses__():
        if "reason" in child.__dict__:
            yield child
        yield from _concrete(child)
