"""What a tenant used, and the cost statement of one request."""

from typing import Literal

from pydantic import BaseModel

ReservationState = Literal["held", "settled", "expired"]
SettlementOutcome = Literal["billed", "released", "exposed"]
ExposureCause = Literal["provider", "client", "fleet"]


TokenClass = Literal[
    "text_input",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "text_output",
    "reasoning_output",
    "audio_output",
    "other",
]


class ClassCostRead(BaseModel):
    """Tokens of one class, and their share of a cost. Each token is of one class; the shares add up to the cost."""

    token_class: TokenClass
    tokens: int
    cost_usd: str
    cost_nano_usd: int


class UsageRowRead(BaseModel):
    """Usage at one price key, of one day or of the whole interval. `day` is when the day begins, by UTC.

    `calls` and tokens are of provider calls. `cache_hits` answers came from the response cache instead: what they cost
    is in `cost_usd`, and `saved_usd` is what their tokens would have cost beside that. `classes` share tokens and cost;
    what was settled before classes were kept is in none. `right_sizing_saved_usd` is what right-sizing saved by calls
    at this key; it is negative where it cost more.
    """

    object: Literal["usage"] = "usage"
    day: int | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    cache_hits: int = 0
    saved_usd: str = "0"
    right_sizing_saved_usd: str = "0"
    classes: list[ClassCostRead] = []


class CacheUsageRead(BaseModel):
    """What the response cache did for one model, on one UTC day or on all days of the interval, in whole days.

    `hit_ratio` is the share of `lookups` that it answered, with four decimals.
    """

    object: Literal["cache_usage"] = "cache_usage"
    day: int | None
    model: str
    lookups: int
    hits: int
    semantic_hits: int
    stale_hits: int
    hit_ratio: float
    cost_usd: str
    saved_usd: str


class RightSizingUsageRead(BaseModel):
    """What right-sizing did for one model, on one UTC day or on all days of the interval, in whole days.

    `requests` are easy ones that called a cheap candidate, and `answered` those that one answered; the calls of cheap
    candidates cost `cost_usd`. `saved_usd` is what would have been paid instead, at the price of the candidate that the
    route would have tried first, less that. It is negative where more was paid: for cheap answers of no use, too.
    """

    object: Literal["right_sizing_usage"] = "right_sizing_usage"
    day: int | None
    model: str
    requests: int
    answered: int
    cost_usd: str
    saved_usd: str


class UsageRead(BaseModel):
    """Usage by price key, and by day on request, with the total cost. Days are those of `time_zone`.

    `right_sizing_saved_usd` is what right-sizing saved over all rows of `data`; what the cache saved is no part of it.
    """

    object: Literal["list"] = "list"
    time_zone: Literal["UTC"] = "UTC"
    data: list[UsageRowRead]
    total_usd: str
    right_sizing_saved_usd: str = "0"
    cache: list[CacheUsageRead] = []
    right_sizing: list[RightSizingUsageRead] = []
    has_more: Literal[False] = False


class ReservationRead(BaseModel):
    """Money that was reserved before the provider was called."""

    held_usd: str
    state: ReservationState
    created_at: int
    expires_at: int


class SettledUsage(BaseModel):
    """Tokens of a provider call, and how they were learnt; null is unknown."""

    input_tokens: int | None
    output_tokens: int | None
    source: str


class ReconciliationRead(BaseModel):
    """What an operator decided about an exposure; the tenant pays `billed_usd` of it."""

    decision: Literal["written_off", "billed"]
    billed_usd: str
    billed_nano_usd: int
    note: str
    reconciled_at: int


class RightSizedRead(BaseModel):
    """A call that right-sizing sent to a cheap candidate, beside the candidate that the route would have tried first.

    `saved_usd` is what the answer's tokens would have cost at its price, which is that of the reservation, less what
    the call cost. The client did not get every answer: without, it is less what the call cost, and so negative.
    """

    price_key: str
    price_version: str
    saved_usd: str
    saved_nano_usd: int


class SettlementRead(BaseModel):
    """How one provider call was settled; attempt 0 is a request without a provider call, and one with `cache` is a
    cached answer, which saved `saved_usd`.

    `exposed_usd` is what it may have cost and was not paid; `counted_usd` of it counts against the tenant's cap until
    it is reconciled. `reported_usage` is what the provider reported, where that was above the bound of the reservation.
    `classes` share `cost_usd` among the classes of tokens. `right_sizing` is null but for calls of cheap candidates.
    """

    attempt: int
    outcome: SettlementOutcome
    usage: SettledUsage
    price_key: str
    price_version: str
    cost_usd: str
    cost_nano_usd: int
    exposed_usd: str
    exposed_nano_usd: int
    exposure_cause: ExposureCause | None
    counted_usd: str
    usage_clamped: bool
    reported_usage: SettledUsage | None
    reconciliation: ReconciliationRead | None
    settled_at: int
    cache: Literal["hit", "semantic", "stale"] | None = None
    saved_usd: str = "0"
    right_sizing: RightSizedRead | None = None
    classes: list[ClassCostRead] = []


class LedgerEntryRead(BaseModel):
    """A posting to one account; a debit is positive."""

    transaction_id: str
    account: str
    amount_usd: str
    amount_nano_usd: int
    created_at: int


class RequestStatement(BaseModel):
    """What one request cost, and why. `cost_usd` is null until it is settled; `ledger_entries` sum to zero."""

    id: str
    object: Literal["request"] = "request"
    cost_usd: str | None
    cost_nano_usd: int | None
    reservation: ReservationRead
    settlements: list[SettlementRead]
    ledger_entries: list[LedgerEntryRead]
