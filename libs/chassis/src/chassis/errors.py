"""Errors are states: each has a kind (what to do about it) and a reason (what it is), and knows no transport.

    ArgosyError
    ├── InvalidRequest      INVALID      the caller must change the request
    ├── PermissionDenied    DENIED       the caller is known and may not
    ├── Unavailable         UNAVAILABLE  a dependency does not answer
    ├── DeadlineExceeded    TIMED_OUT    the time the caller gave is over
    ├── Internal            INTERNAL     a bug; the details are in the log
    ├── RemoteFailure       (any)        what another service said, passed on as it came
    └── …                   each domain adds its own states

Two total tables turn a kind into a status: `chassis.grpc.STATUS` and `chassis.http.STATUS`. Reasons are part of the
public API: they never change their meaning. `declared_errors` lists every state that was imported.
"""

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


class Kind(StrEnum):
    """What a caller can do about an error. Order and number follow no transport."""

    INVALID = "invalid"  # change the request
    UNAUTHENTICATED = "unauthenticated"  # say who you are
    DENIED = "denied"  # ask somebody for the right
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"  # somebody else changed it, or it exists
    TOO_LARGE = "too_large"
    EXHAUSTED = "exhausted"  # used up: waiting does not help
    THROTTLED = "throttled"  # too fast: waiting helps
    CANCELLED = "cancelled"  # the caller gave up
    UPSTREAM = "upstream"  # somebody outside the fleet failed
    UNAVAILABLE = "unavailable"  # try again later
    TIMED_OUT = "timed_out"
    INTERNAL = "internal"  # our bug


# Messages of these kinds may quote the request or a provider, and so a prompt: they are for the caller alone, and
# stand in no log and no trace.
CONTAINS_USER_CONTENT = frozenset({Kind.INVALID, Kind.UPSTREAM})


class ArgosyError(Exception):
    """Root of every expected failure. A subclass is one state: `kind`, `reason` and a docstring for the reference."""

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

    def __init__(self, message: str, *, param: str | None = None, retry_after: timedelta | None = None) -> None:
        """`message` is a sentence for people, `param` the part of the request at fault, `retry_after` when to retry."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """The reason as clients see it: lower-case."""
        return self.reason.lower()

    def __str__(self) -> str:
        return self.message


class InvalidRequest(ArgosyError):
    """The request does not say something that can be done; `param` names the part at fault."""

    kind, reason = Kind.INVALID, "INVALID_REQUEST"


class PermissionDenied(ArgosyError):
    """The caller is known, and lacks the role that this needs."""

    kind, reason = Kind.DENIED, "PERMISSION_DENIED"


class Unavailable(ArgosyError):
    """A part that this request needs does not answer at the moment; try again."""

    kind, reason = Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE"


class DeadlineExceeded(ArgosyError):
    """The time given for the request was over before the answer was there."""

    kind, reason = Kind.TIMED_OUT, "DEADLINE_EXCEEDED"


class Internal(ArgosyError):
    """A bug in Argosy. The message tells nothing more; the log has the rest under the request's id."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class RemoteError(ArgosyError, abstract=True):
    """What another service said: kind, reason, message and param are its own."""

    def __init__(
        self,
        kind: Kind,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.kind = kind
        self.reason = reason


def declared_errors(*, public_only: bool = False) -> list[type[ArgosyError]]:
    """List the concrete errors of all imported modules by reason; `public_only` leaves out what no client can meet."""
    errors = (cls for cls in _concrete(ArgosyError) if cls.public or not public_only)
    return sorted(errors, key=lambda cls: (cls.reason, cls.__module__))


def meaning(cls: type[ArgosyError]) -> str:
    """A state's reference text."""
    return inspect.cleandoc(cls.__doc__ or "")


def _concrete(cls: type[ArgosyError]) -> Iterator[type[ArgosyError]]:
    for child in cls.__subclasses__():
        if "reason" in child.__dict__:
            yield child
        yield from _concrete(child)
