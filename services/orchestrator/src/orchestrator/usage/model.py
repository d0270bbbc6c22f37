"""What provider calls consumed, and the record of it that settles a request."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class UsageSource(StrEnum):
    """How token counts were learnt."""

    REPORTED = "reported"
    COUNTED = "counted"
    UNKNOWN = "unknown"


class TokenUsage(NamedTuple):
    """Tokens read and written. None is unknown; an explicit zero is a value."""

    source: UsageSource
    input_tokens: int | None = None
    output_tokens: int | None = None


UNKNOWN = TokenUsage(UsageSource.UNKNOWN)
"""The call may have cost something, and nobody can say what."""

# The less certain, the later: a sum is as certain as its least certain part.
_CERTAINTY = (UsageSource.REPORTED, UsageSource.COUNTED, UsageSource.UNKNOWN)


def counts(usage: TokenUsage) -> tuple[int, int] | None:
    """Return tokens read and written if both are known: only then can a bill be made."""
    if usage.source is UsageSource.UNKNOWN or usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens, usage.output_tokens


def total(usages: Iterable[TokenUsage]) -> TokenUsage:
    """Sum up what is known; the sum says so when a part is not."""
    source, read, written = UsageSource.REPORTED, 0, 0
    for usage in usages:
        known = counts(usage)
        source = max(source, usage.source if known else UsageSource.UNKNOWN, key=_CERTAINTY.index)
        read += usage.input_tokens or 0
        written += usage.output_tokens or 0
    return TokenUsage(source, read, written)


class Attempt(NamedTuple):
    """One provider call: counts from 1; the candidate's place in the plan counts from 0."""

    number: int
    candidate: int
    usage: TokenUsage


class AttemptUsage(NamedTuple):
    """What one provider call consumed, at the price agreed before it."""

    number: int
    price_key: str
    price_version: str
    usage: TokenUsage


class RequestUsage(NamedTuple):
    """All provider calls of a request; none at all releases its reservation. `event_id` makes recording repeatable."""

    event_id: str
    tenant_id: str
    project_id: str
    key_id: str
    request_id: str
    attempts: tuple[AttemptUsage, ...]
