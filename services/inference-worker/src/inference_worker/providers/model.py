"""How a provider call fails, and what calls for vectors and scores return.

ArgosyError
└── UpstreamFailed                      connect error, 5xx
    ├── UpstreamOverloaded              503, 529: it takes no more requests now
    ├── UpstreamRateLimited             429
    ├── UpstreamAccountUnavailable      our credential was refused, or our account is empty
    ├── UpstreamUnavailable             no call was made: all circuits are open
    ├── UpstreamTimedOut                no byte within the timeout, or status 408 or 504
    ├── UpstreamTooSlow                 the stream began, and was too slow before its first content
    ├── UpstreamProtocolError           a response that does not follow the provider's protocol
    ├── UpstreamAnswerRefused           the answer of a cheap model is not what was asked for
    ├── UpstreamInterrupted             the response ended early
    ├── VectorsTooLarge                 the vectors are more than a worker keeps
    ├── UpstreamModelNotFound           the upstream has no such model; other candidates may have one
    └── UpstreamRejected                400, 422…: the request itself; other candidates would reject it too
        ├── ContextLengthExceeded       too many tokens; goes to candidates for that
        ├── ContentFiltered             refused by a content policy; goes to candidates for that
        └── UnsupportedParameter        this upstream lacks what the request needs; others may have it
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.embeddings import FLOAT_BYTES
from values.limits import MAX_VECTOR_BYTES
from values.usage import TokenUsage


class Blame(StrEnum):
    """What a failure speaks against, and so what is tried next."""

    REQUEST = "request"
    """The request itself. The upstream works."""
    CONTEXT = "context"
    """The request has too many tokens for this model."""
    CONTENT = "content"
    """The request violates a content policy of this provider."""
    CANDIDATE = "candidate"
    """This model cannot do what was asked. The upstream works."""
    ACCOUNT = "account"
    """Our credential, or our account."""
    RATE = "rate"
    """The rate of our account."""
    UPSTREAM = "upstream"
    """The upstream. Another call may succeed."""
    ANSWER = "answer"
    """What the upstream sent, or that it sent nothing: the call may have been billed, so it is not repeated there."""
    WORKER = "worker"
    """This worker: nothing was sent, so it tells nothing of the upstream."""


class UpstreamFailed(ArgosyError):
    """The upstream could not be reached, or failed inside."""

    kind = Kind.UPSTREAM
    reason = "UPSTREAM_FAILED"
    blame: Blame = Blame.UPSTREAM
    maybe_billed: bool = False
    """Whether the call may have used tokens although no byte of its response arrived."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: timedelta | None = None,
        maybe_billed: bool | None = None,
        fallback: bool = True,
        retry_same: bool = False,
        provider_code: str | None = None,
        blame: Blame | None = None,
    ) -> None:
        """`fallback`: the next candidate may succeed. `retry_same`: this one may, at once.

        `provider_code` is the provider's own code, for the log. `blame` is the class's own by default.
        """
        super().__init__(message, param=param, retry_after=retry_after)
        if maybe_billed is not None:
            self.maybe_billed = maybe_billed
        if blame is not None:
            self.blame = blame
        self.fallback = fallback
        self.retry_same = retry_same
        self.provider_code = provider_code
        self.usage: TokenUsage | None = None
        """What the upstream reported beside its error."""
        self.search_units: int | None = None
        """What it reported in this unit; see `Scores`."""


class UpstreamOverloaded(UpstreamFailed):
    """The upstream takes no more requests now; `retry-after` says when it may, if the upstream said so."""

    kind = Kind.UNAVAILABLE
    reason = "UPSTREAM_OVERLOADED"


class UpstreamRateLimited(UpstreamFailed):
    """The upstream limits its rate, and no other credential or candidate was left. `retry-after` is its wait."""

    kind = Kind.THROTTLED
    reason = "UPSTREAM_RATE_LIMITED"
    blame = Blame.RATE


class UpstreamAccountUnavailable(UpstreamFailed):
    """The upstream refused the credential that it was called with, or the account behind it is empty.

    That is the operator's failure, never the tenant's quota.
    """

    reason = "UPSTREAM_ACCOUNT_UNAVAILABLE"
    blame = Blame.ACCOUNT
    account_wide: bool = True
    """False for status 403, which may be about one model or one request: then it only counts as a failure."""
    own_credential: bool = False
    """Whether the tenant brought the credential: then it is the tenant's to mend."""


class UpstreamUnavailable(UpstreamFailed):
    """No upstream of this model works now, so none was called; `retry-after` says when the next call is tried."""

    kind = Kind.UNAVAILABLE
    reason = "UPSTREAM_UNAVAILABLE"


class UpstreamTimedOut(UpstreamFailed):
    """The upstream sent nothing for longer than the plan allows."""

    kind = Kind.TIMED_OUT
    reason = "UPSTREAM_TIMED_OUT"
    blame = Blame.ANSWER
    maybe_billed = True


class UpstreamTooSlow(UpstreamFailed):
    """The upstream's stream began, and then was slower than the operator allows, before its first content."""

    kind = Kind.TIMED_OUT
    reason = "UPSTREAM_TOO_SLOW"
    blame = Blame.ANSWER
    maybe_billed = True


class UpstreamProtocolError(UpstreamFailed):
    """The upstream's response does not follow its own protocol."""

    reason = "UPSTREAM_INVALID_RESPONSE"
    blame = Blame.ANSWER
    maybe_billed = True


class UpstreamAnswerRefused(UpstreamFailed):
    """A cheap model's answer was empty or not the JSON that was asked for, and no other model could be called."""

    reason = "UPSTREAM_ANSWER_REFUSED"
    blame = Blame.CANDIDATE
    maybe_billed = True


class UpstreamInterrupted(UpstreamFailed):
    """The upstream's response was interrupted after it had begun."""

    reason = "UPSTREAM_INTERRUPTED"
    maybe_billed = True


class VectorsTooLarge(UpstreamFailed):
    """The vectors of one answer are more than a worker keeps: send fewer inputs. The caller is not charged."""

    kind = Kind.INVALID
    reason = "VECTORS_TOO_LARGE"
    blame = Blame.REQUEST
    maybe_billed = True

    def __init__(self, dimensions: int) -> None:
        most = MAX_VECTOR_BYTES // (dimensions * FLOAT_BYTES)
        message = f"The model's vectors have {dimensions} numbers: at most {most} inputs fit into one request."
        super().__init__(f"{message} This one was not charged.", param="input", fallback=False)
        self.dimensions = dimensions


class UpstreamModelNotFound(UpstreamFailed):
    """The upstream does not have the model that the route names, or not for our account: the route is wrong."""

    kind = Kind.NOT_FOUND
    reason = "UPSTREAM_MODEL_NOT_FOUND"
    blame = Blame.CANDIDATE


class UpstreamRejected(UpstreamFailed):
    """The upstream rejects the request itself; the message is the upstream's own."""

    kind = Kind.INVALID
    reason = "UPSTREAM_REJECTED"
    blame = Blame.REQUEST

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        fallback: bool = False,
        provider_code: str | None = None,
    ) -> None:
        """With `fallback` only this candidate lacks what the request needs."""
        super().__init__(message, param=param, fallback=fallback, provider_code=provider_code)
        if fallback and self.blame is Blame.REQUEST:
            self.blame = Blame.CANDIDATE


class ContextLengthExceeded(UpstreamRejected):
    """The request has more tokens than the model can read, with those that it may write: shorten it."""

    reason = "CONTEXT_LENGTH_EXCEEDED"
    blame = Blame.CONTEXT


class ContentFiltered(UpstreamRejected):
    """The upstream's content policy refused the request; the message is the upstream's own."""

    reason = "CONTENT_FILTER"
    blame = Blame.CONTENT


class UnsupportedParameter(UpstreamRejected):
    """No upstream of this model takes a parameter of the request, or its value; `param` names it where it is known."""

    reason = "UNSUPPORTED_PARAMETER"
    blame = Blame.CANDIDATE

    def __init__(self, message: str, *, param: str | None = None, provider_code: str | None = None) -> None:
        super().__init__(message, param=param, fallback=True, provider_code=provider_code)


@dataclass(frozen=True, slots=True)
class Scores:
    """One score from 0 to 1 per document, and the usage if the upstream reported it."""

    scores: tuple[float, ...]
    usage: TokenUsage | None
    search_units: int | None = None
    """What Cohere bills: a query with up to a hundred documents. None when it was not reported."""
    unscored: int = 0
    """Documents that the upstream left out. Their score is 0."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, each little-endian 32-bit floats, and the usage if the upstream reported it."""

    vectors: tuple[bytes, ...]
    usage: TokenUsage | None
