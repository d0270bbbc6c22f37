"""What a refusal is about, in terms that decide who pays, what is tried next, and what the client reads."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any


class RefusalKind(StrEnum):
    """What a provider refused a call for."""

    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTERED = "content_filtered"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    UNKNOWN_MODEL = "unknown_model"
    INVALID_REQUEST = "invalid_request"
    CREDENTIAL_REFUSED = "credential_refused"
    ACCOUNT_EMPTY = "account_empty"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal."""

    kind: RefusalKind
    status: int
    """The status that decided: that in the body where the answer itself had none."""
    message: str = ""
    """The provider's words, as they came."""
    param: str | None = None
    code: str | None = None
    """The provider's own code, for operators."""
    wait: timedelta | None = None
    """How long the provider asks to wait."""


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """What a dialect found in an error body."""

    message: str = ""
    param: str | None = None
    codes: tuple[str, ...] = ()
    """The provider's codes and types, the most telling first."""
    status: int | None = None
    """A status that stands in the body."""
    kind: RefusalKind | None = None
    """Set when the shape itself tells."""
    wait: timedelta | None = None
    details: tuple[dict[str, Any], ...] = field(default=())
    """Google's structured details."""
