"""Tokens that provider calls consumed, and how they were learnt."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class UsageSource(StrEnum):
    """How token counts were learnt. The less certain, the later."""

    REPORTED = "reported"  # by the provider
    COUNTED = "counted"  # by Argosy with a tokenizer, because the provider did not report it
    UNKNOWN = "unknown"  # the call may have cost something, and no count exists


class ExposureCause(StrEnum):
    """Whose doing it is that a provider call has no usage that could be billed."""

    PROVIDER = "provider"  # it broke off, sent no usage, or used more than was held
    CLIENT = "client"  # it left, or asked to stop
    FLEET = "fleet"  # a part of Argosy died or lost contact


class CacheOutcome(StrEnum):
    """What the response cache did for a request."""

    MISS = "miss"  # it had no answer
    HIT = "hit"  # the answer to an equal request
    SEMANTIC = "semantic"  # the answer to a request of the same meaning
    STALE = "stale"  # an answer older than its time to live, because all providers failed


class TokenUsage(NamedTuple):
    """Tokens read and written by one provider call. None is unknown; an explicit zero is a value."""

    source: UsageSource
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def known(self) -> tuple[int, int] | None:
        """Tokens read and written when both are known: only then can the call be priced."""
        if self.source is UsageSource.UNKNOWN or self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens, self.output_tokens


UNKNOWN_USAGE = TokenUsage(UsageSource.UNKNOWN)
"""The call may have cost something, and no count exists."""

NO_USAGE = TokenUsage(UsageSource.COUNTED, 0, 0)
"""The call was refused before it began: certainly nothing was used."""

_CERTAINTY = tuple(UsageSource)


def total_usage(usages: Iterable[TokenUsage]) -> TokenUsage:
    """Sum up what is known. The sum is as certain as its least certain part."""
    source, input_tokens, output_tokens = UsageSource.REPORTED, 0, 0
    for usage in usages:
        certain = usage.source if usage.known is not None else UsageSource.UNKNOWN
        source = max(source, certain, key=_CERTAINTY.index)
        input_tokens += usage.input_tokens or 0
        output_tokens += usage.output_tokens or 0
    return TokenUsage(source, input_tokens, output_tokens)
