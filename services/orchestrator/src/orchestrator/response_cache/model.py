"""Cached answers, the policy of a route, and what a request asks of the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from values.usage import CacheOutcome, TokenUsage

FREE_PERCENT: Final = 100
"""Taken off the price of an answer that costs nothing."""


class ExactMode(StrEnum):
    """Which requests of a route use the exact cache."""

    OFF = "off"
    """None, whatever they ask."""
    ON_REQUEST = "on_request"
    """Those that ask for it."""
    ON = "on"
    """All that do not turn it off."""


class Charge(StrEnum):
    """What a tenant pays for a cached answer."""

    FREE = "free"
    DISCOUNTED = "discounted"
    FULL = "full"


class CacheMode(StrEnum):
    """Whether a request reads the cache, and writes to it."""

    OFF = "off"
    READ = "read"
    WRITE = "write"
    ON = "on"

    @property
    def reads(self) -> bool:
        return self in {CacheMode.READ, CacheMode.ON}

    @property
    def writes(self) -> bool:
        return self in {CacheMode.WRITE, CacheMode.ON}


class CacheControl(NamedTuple):
    """What a request asks of the cache. None is as the route says."""

    mode: CacheMode | None = None
    max_age: timedelta | None = None
    """The oldest answer to accept."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How the requests of a route use the cache."""

    exact: ExactMode = ExactMode.ON_REQUEST
    ttl: timedelta = timedelta(hours=1)
    stale_if_error: timedelta = timedelta(0)
    """How long after its time to live an answer is still given when all providers fail."""
    charge: Charge = Charge.FREE
    discount_percent: int = 0
    """Taken off the price of a cached answer whose charge is discounted, 1 to 99."""
    semantic_threshold: float | None = None
    """The least cosine similarity of prompts that may share an answer; None if only equal requests may."""

    @property
    def percent_off(self) -> int:
        """What is taken off the price of a cached answer, 0 to 100."""
        if self.charge is Charge.DISCOUNTED:
            return self.discount_percent
        return FREE_PERCENT if self.charge is Charge.FREE else 0


class CacheKey(NamedTuple):
    """Where an answer is kept: its tenant, its public model name, and the digest of all that shapes it."""

    tenant_id: str
    model: str
    digest: str


class CachedAnswer(NamedTuple):
    """A whole answer of a provider, as its client got it."""

    payloads: Sequence[bytes]
    """Of a stream, the JSON documents of its events; else the one body."""
    usage_payload: bytes
    usage: TokenUsage
    """Of the provider call that gave it."""
    price_key: str
    price_version: str
    """The price of that call."""
    created_ms: int
    """When its request asked the cache, by the clock of the store, in milliseconds since 1970."""
    warnings: Sequence[str] = ()
    """Of the provider that gave it."""


class Hit(NamedTuple):
    """An answer of the cache."""

    answer: CachedAnswer
    outcome: CacheOutcome
    age_seconds: int
    percent_off: int
    """What is taken off its price."""

    @property
    def is_free(self) -> bool:
        return self.percent_off == FREE_PERCENT
