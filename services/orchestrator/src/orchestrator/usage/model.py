"""What provider calls consumed, and the event that settles a request."""

from typing import NamedTuple

from values.money import Price
from values.usage import CacheOutcome, ExposureCause, TokenUsage


class Attempt(NamedTuple):
    """One provider call: `number` counts from 1, `candidate` is its index in the plan."""

    number: int
    candidate: int
    usage: TokenUsage
    exposure_cause: ExposureCause | None = None
    """Whose doing it is that the usage is not known, where it is not."""


class AttemptUsage(NamedTuple):
    """What one provider call consumed, at the price that was agreed when its cost was reserved."""

    number: int
    price: Price
    usage: TokenUsage
    exposure_cause: ExposureCause | None = None


class CacheUse(NamedTuple):
    """What the response cache did for a request for `model`."""

    outcome: CacheOutcome
    model: str
    attempt: int = 0
    """The one that stands for the cached answer and is no provider call; 0 for a miss."""


class RightSizingUse(NamedTuple):
    """The calls of cheap candidates that an easy request for `model` made."""

    model: str
    alternative: Price
    """Of the candidate that would have been tried first, had the request not been easy."""
    attempts: tuple[int, ...]
    answer: int = 0
    """The one of them whose answer the client got, or was getting when it left; 0 for none."""


class RequestUsage(NamedTuple):
    """All provider calls of a request; none releases its reservation. `event_id` makes writing it idempotent."""

    event_id: str
    tenant_id: str
    project_id: str
    key_id: str
    request_id: str
    attempts: tuple[AttemptUsage, ...]
    cache: CacheUse | None = None
    right_sizing: RightSizingUse | None = None


class Hits(NamedTuple):
    """Cached answers of a tenant. `event_id` makes writing them idempotent."""

    event_id: str
    tenant_id: str
    hits: tuple[RequestUsage, ...]
