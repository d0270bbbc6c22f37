"""Tokens that provider calls consumed, and how they were learnt."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from operator import add
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


class BillingUnit(StrEnum):
    """What a provider counts to bill scores of documents."""

    TOKENS = "tokens"
    SEARCH_UNITS = "search_units"  # Cohere's: a query with up to a hundred documents. One stands for a token of input


class CacheOutcome(StrEnum):
    """What the response cache did for a request."""

    MISS = "miss"  # it had no answer
    HIT = "hit"  # the answer to an equal request
    SEMANTIC = "semantic"  # the answer to a request of the same meaning
    STALE = "stale"  # an answer older than its time to live, because all providers failed


class TokenClass(StrEnum):
    """Kinds of tokens that providers price apart. Each token is of one class: first those read, then those written."""

    TEXT_INPUT = "text_input"  # all read tokens of no other class
    CACHED_INPUT = "cached_input"  # read from the provider's cache, whatever they stand for
    CACHE_WRITE = "cache_write"  # written to the provider's cache, for as long as it keeps them by default
    CACHE_WRITE_1H = "cache_write_1h"  # written to Anthropic's cache for an hour
    AUDIO_INPUT = "audio_input"
    IMAGE_INPUT = "image_input"
    TEXT_OUTPUT = "text_output"  # all written tokens of no other class
    REASONING_OUTPUT = "reasoning_output"
    AUDIO_OUTPUT = "audio_output"


class TokenDetails(NamedTuple):
    """Tokens of other classes than text. They are part of the two counts of a `TokenUsage`, not beside them."""

    cached_input: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    image_input: int = 0
    reasoning_output: int = 0
    audio_output: int = 0

    def within(self, input_tokens: int, output_tokens: int) -> TokenDetails | None:
        """Cut what is more than the two counts, from the last class on; None when nothing is left.

        So classes are disjoint whatever a provider reports: what came from the cache is no audio as well.
        """
        cached, write, write_1h, audio, image, reasoning, spoken = self
        if (
            cached + write + write_1h + audio + image <= input_tokens
            and reasoning + spoken <= output_tokens
            and min(self) >= 0
        ):
            return self if any(self) else None
        left, cut = input_tokens, []
        for place, tokens in enumerate(self):
            if place == INPUT_DETAILS:
                left = output_tokens
            cut.append(max(0, min(tokens, left)))
            left -= cut[-1]
        return TokenDetails(*cut) if any(cut) else None


CACHE_DETAILS, INPUT_DETAILS = 3, 5
"""How many of `TokenDetails` a cache has read or written, and how many are read; the others are written."""
DETAIL_CLASSES = tuple(TokenClass(name) for name in TokenDetails._fields)


class AbsentClasses(NamedTuple):
    """Classes that a request certainly does not use, so that nothing is held for their prices."""

    cache_writes: bool = False
    audio_input: bool = False
    audio_output: bool = False


class TokenUsage(NamedTuple):
    """Tokens read and written by one provider call. None is unknown; an explicit zero is a value.

    The counts are of all classes; without `details` all tokens are text.
    """

    source: UsageSource
    input_tokens: int | None = None
    output_tokens: int | None = None
    details: TokenDetails | None = None

    @property
    def known(self) -> tuple[int, int] | None:
        """Tokens read and written when both are known: only then can the call be priced."""
        if self.source is UsageSource.UNKNOWN or self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens, self.output_tokens

    def without_cache(self) -> TokenUsage:
        """Take the tokens that a provider's cache read or wrote as text."""
        if self.details is None or not any(self.details[:CACHE_DETAILS]):
            return self
        kept = TokenDetails(*(0,) * CACHE_DETAILS, *self.details[CACHE_DETAILS:])
        return self._replace(details=kept if any(kept) else None)

    def clamped(self, max_input_tokens: int, max_output_tokens: int) -> TokenUsage:
        """Take the counts at a bound where they are above it; return the same object where they are not."""
        if (self.input_tokens or 0) <= max_input_tokens and (self.output_tokens or 0) <= max_output_tokens:
            return self
        return TokenUsage(
            self.source,
            None if self.input_tokens is None else min(self.input_tokens, max_input_tokens),
            None if self.output_tokens is None else min(self.output_tokens, max_output_tokens),
            self.details
            and self.details.within(
                min(self.input_tokens or 0, max_input_tokens), min(self.output_tokens or 0, max_output_tokens)
            ),
        )


UNKNOWN_USAGE = TokenUsage(UsageSource.UNKNOWN)
"""The call may have cost something, and no count exists."""

NO_USAGE = TokenUsage(UsageSource.COUNTED, 0, 0)
"""The call was refused before it began: certainly nothing was used."""

_CERTAINTY = tuple(UsageSource)


def total_usage(usages: Sequence[TokenUsage]) -> TokenUsage:
    """Sum up what is known. The sum is as certain as its least certain part."""
    if len(usages) == 1 and usages[0].known is not None:
        return usages[0]
    source, input_tokens, output_tokens = UsageSource.REPORTED, 0, 0
    details: TokenDetails | None = None
    for usage in usages:
        certain = usage.source if usage.known is not None else UsageSource.UNKNOWN
        source = max(source, certain, key=_CERTAINTY.index)
        input_tokens += usage.input_tokens or 0
        output_tokens += usage.output_tokens or 0
        if usage.details is not None:
            details = TokenDetails(*map(add, details or TokenDetails(), usage.details))
    return TokenUsage(source, input_tokens, output_tokens, details)
