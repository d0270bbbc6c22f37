"""What decides which of a route's candidates are tried, and in which order; and what its answers are cached for."""

from dataclasses import dataclass, fields
from enum import StrEnum


class Strategy(StrEnum):
    """How the eligible candidates of a priority group are ordered."""

    ORDERED = "ordered"
    """As they are written."""
    WEIGHTED = "weighted"
    """At random, by their weights."""
    CHEAPEST = "cheapest"
    """By the cost of the request's bound, at the prices of the latest reservation."""
    FASTEST = "fastest"
    """By the answers of the last hour; of chat."""


class Charge(StrEnum):
    """What a tenant pays for an answer from a cache."""

    FREE = "free"
    DISCOUNTED = "discounted"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which requests a candidate is for. Empty sets match all."""

    plans: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    """ISO 3166 codes of two letters."""
    tags: tuple[tuple[str, frozenset[str]], ...] = ()
    """Names of `argosy.metadata`, and the values that match; all names have to."""


NO_CONDITIONS = Conditions()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a candidate can take. None is not known, and then assumed."""

    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    audio: bool | None = None
    context_tokens: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether nothing is known that a request could be too much for."""
        flags = (self.tools, self.vision, self.json_schema, self.audio)
        return self.context_tokens is None and False not in flags

    def or_else(self, other: "Capabilities") -> "Capabilities":
        """Return these, and of the other what is not known here."""
        return Capabilities(
            **{
                field.name: getattr(other if getattr(self, field.name) is None else self, field.name)
                for field in fields(Capabilities)
            }
        )


ANY_CAPABILITY = Capabilities()


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Whether answers are cached, and what a hit costs. By default it is as the settings say."""

    disabled: bool = False
    """No request of the route uses a cache, whatever it or the settings say."""
    exact: bool = False
    semantic: bool = False
    ttl_seconds: int = 3_600
    threshold: float = 0.95
    """The least cosine similarity of a semantic hit."""
    stale_if_error_seconds: int = 0
    """How long after its time to live an answer may stand in while no candidate answers."""
    charge: Charge = Charge.FREE
    discount_percent: int = 50
    """Off the price of the cached answer, where `charge` is `discounted`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a candidate is called again before the next one. None is the worker's setting."""

    max_attempts: int | None = None
    """Provider calls of one request over all candidates."""


@dataclass(frozen=True, slots=True)
class RightSizing:
    """Sends easy requests to cheap candidates first. A request is easy if no rule speaks against it."""

    cheap: frozenset[str]
    """`upstream/model` of candidates of the same route."""
    max_input_bytes: int = 2_000
    allow_tools: bool = False
    allow_json_schema: bool = True
    hard_words: frozenset[str] = frozenset()
    """A request is not easy if its last message has one of them; in lower case."""
    easy_words: frozenset[str] = frozenset()
    """If there are any: a request is only easy if its last message has one of them; in lower case."""


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """How a route chooses among its candidates."""

    strategy: Strategy = Strategy.ORDERED
    sticky: bool = False
    """Requests of one tenant that begin with the same messages get the same order, for the provider's prompt cache."""
    cache: CachePolicy = CachePolicy()
    retry: RetryPolicy = RetryPolicy()
    right_sizing: RightSizing | None = None


DEFAULT_POLICY = RoutePolicy()
