"""Sums of usage, and intervals split at midnights."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from values.limits import MAX_MODEL_NAME_CHARACTERS
from values.money import ZERO, ClassCost, NanoUsd
from values.usage import CacheOutcome

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Calls, tokens and cost of one price key, of one UTC day or of the whole interval (`day` is None).

    Answers of the response cache are no calls: their count is `cache_hits`, their cost is in `cost`, and `saved` is
    what their tokens would have cost beside that. `classes` share tokens and cost; what was settled before classes were
    kept is in none. `right_sizing_saved` is negative where right-sizing cost more than it saved.
    """

    day: date | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: NanoUsd
    cache_hits: int = 0
    saved: NanoUsd = ZERO
    classes: tuple[ClassCost, ...] = ()
    right_sizing_saved: NanoUsd = ZERO


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What the response cache did for a request for `model`.

    `attempt` is the one that stands for the cached answer; 0 for a miss.
    """

    outcome: CacheOutcome
    model: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class CacheSum:
    """What the response cache did for one model, on one UTC day or on all days of an interval (`day` is None)."""

    day: date | None
    model: str
    lookups: int
    hits: int
    semantic_hits: int
    stale_hits: int
    cost: NanoUsd
    saved: NanoUsd


@dataclass(frozen=True, slots=True)
class RightSizingUse:
    """The calls of cheap candidates that an easy request for `model` made.

    They are compared with the price of the candidate that would have been tried first. `answer` is the call whose
    answer the client got; 0 for none.
    """

    model: str
    price_key: str
    price_version: str
    attempts: frozenset[int]
    answer: int = 0


@dataclass(frozen=True, slots=True)
class RightSizingSum:
    """What right-sizing did for one model, on one UTC day or on all days of an interval (`day` is None).

    Of `requests`, cheap candidates answered `answered`. Their calls cost `cost`; `saved` is what would have been paid
    instead, less that.
    """

    day: date | None
    model: str
    requests: int
    answered: int
    cost: NanoUsd
    saved: NanoUsd


def is_valid_model_name(text: str) -> bool:
    """Whether it can be a public model name, and a text in Postgres."""
    return 0 < len(text) <= MAX_MODEL_NAME_CHARACTERS and text.isprintable()


@dataclass(frozen=True, slots=True)
class SplitInterval:
    """Whole UTC days, and the parts before and after them."""

    first_day: date
    end_day: date
    head: tuple[datetime, datetime]
    tail: tuple[datetime, datetime]


def split_at_midnights(start: datetime, end: datetime) -> SplitInterval:
    """Split [start, end), so that whole days are read from the daily roll-up and only the rest from settlements."""
    first = _midnight(start) if start == _midnight(start) else _midnight(start) + timedelta(days=1)
    last = max(_midnight(end), first)
    return SplitInterval(first.date(), last.date(), (start, min(first, end)), (last, max(end, last)))


def _midnight(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)
