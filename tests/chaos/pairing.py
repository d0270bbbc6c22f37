"""Which settlement belongs to which provider call. The drills read both sides; `tests/contract` tests the rules.

A call pairs with one settlement of its own candidate (price key) in its own request:

    billed      with the call's own tokens
    counted     billed with tokens counted by Argosy, for a call whose usage was not read to its end
    exposed     at the bound of its own candidate, with unknown usage; or with its own tokens, above what was held
    released    only if the provider refused the call before it did any work

Every call needs a settlement. A settlement that bills needs a call; one that exposes or releases need not have one,
because a call can be announced and never be sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

VERDICTS = ("billed", "counted", "exposed", "released")


def cost_of(input_tokens: int, output_tokens: int, input_price: int, output_price: int) -> int:
    """Nano-USD at prices per million tokens, rounded up once."""
    return -(-(input_tokens * input_price + output_tokens * output_price) // 1_000_000)


@dataclass(frozen=True, slots=True)
class Call:
    """One call in the provider's journal."""

    number: int
    tenant: str
    request: int
    """The tenant's own number of the request."""
    price_key: str
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    end: str = "running"
    """`answered`, `refused`, `cut`, `left`, or `running`."""
    usage_sent: bool = False

    @property
    def tokens(self) -> tuple[int, int]:
        return self.prompt_tokens, self.completion_tokens


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one candidate can use, and its prices in nano-USD per million tokens."""

    price_key: str
    input_tokens: int
    output_tokens: int
    input_price: int
    output_price: int
    audio_price: int | None = None
    """None: that of input."""
    reasoning_price: int | None = None
    """None: that of output."""

    @property
    def cost(self) -> int:
        """At the dearest prices that a request without sound can have."""
        output_price = max(self.output_price, self.reasoning_price or 0)
        return cost_of(self.input_tokens, self.output_tokens, self.input_price, output_price)

    def cost_of(self, input_tokens: int, output_tokens: int, *, by_class: bool = True) -> int:
        """Nano-USD, `by_class` with the journaled provider's shares of sound and of reasoning."""
        sound, thoughts = (input_tokens // 3, output_tokens // 2) if by_class else (0, 0)
        audio_price = self.input_price if self.audio_price is None else self.audio_price
        reasoning_price = self.output_price if self.reasoning_price is None else self.reasoning_price
        exact = (input_tokens - sound) * self.input_price + sound * audio_price
        exact += (output_tokens - thoughts) * self.output_price + thoughts * reasoning_price
        return -(-exact // 1_000_000)


@dataclass(frozen=True, slots=True)
class Settlement:
    """One row of `metering.settlements`; amounts in nano-USD."""

    attempt: int
    outcome: str
    source: str
    tokens: tuple[int | None, int | None]
    price_key: str
    cost: int
    exposed: int

    def __str__(self) -> str:
        name = self.price_key or "no candidate"
        return f"attempt {self.attempt} of {name} {self.outcome}, cost {self.cost}, exposed {self.exposed}"


@dataclass(frozen=True, slots=True)
class Request:
    """A reservation and its settlements."""

    request_id: str
    bounds: tuple[Bound, ...]
    settlements: tuple[Settlement, ...]

    def bound_of(self, price_key: str) -> Bound | None:
        return next((bound for bound in self.bounds if bound.price_key == price_key), None)


@dataclass(slots=True)
class Pairing:
    """The result of a comparison."""

    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    without_call: int = 0
    """Exposed settlements without a call."""
    unpaired: list[str] = field(default_factory=list)
    """A sentence for each call without its settlement, and for each billed settlement without its call."""
    kinds: Counter[str] = field(default_factory=Counter)
    """What is wrong with them, in a word or two."""


def verdict(call: Call, settlement: Settlement, bound: Bound) -> str | None:
    """Return how the settlement settles the call; None if it does not."""
    if settlement.price_key != call.price_key:
        return None
    input_tokens, output_tokens = settlement.tokens
    if settlement.outcome == "released":
        return "released" if call.end == "refused" else None
    if settlement.source == "unknown" or input_tokens is None or output_tokens is None:
        return "exposed" if settlement.outcome == "exposed" and settlement.exposed == bound.cost else None
    used = bound.cost_of(input_tokens, output_tokens, by_class=settlement.source == "reported")
    if call.end == "refused" or settlement.cost + settlement.exposed != used:
        return None
    if settlement.source == "reported":
        return settlement.outcome if settlement.tokens == call.tokens else None
    # An answer that is not streamed is one document with its usage, so it is read with it or not at all.
    missed = call.stream or not call.usage_sent
    return "counted" if missed else None


Pairs = dict[Call, tuple[Settlement, str]]


def pair_request(calls: Sequence[Call], request: Request) -> tuple[Pairs, list[Settlement]]:
    """Pair as many calls as possible, first of all with what was billed; return the pairs, and what is left."""
    best: Pairs = {}

    def search(position: int, pairs: Pairs) -> None:
        nonlocal best
        best = max(best, pairs, key=_score)
        if position == len(calls):
            return
        call, taken = calls[position], _settlements(pairs)
        bound = request.bound_of(call.price_key)
        for settlement in request.settlements:
            how = None if bound is None or settlement in taken else verdict(call, settlement, bound)
            if how is not None:
                search(position + 1, {**pairs, call: (settlement, how)})
        search(position + 1, pairs)

    search(0, {})
    taken = _settlements(best)
    return best, [settlement for settlement in request.settlements if settlement not in taken]


def _score(pairs: Pairs) -> tuple[int, int]:
    return len(pairs), sum(settlement.cost > 0 for settlement in _settlements(pairs))


def _settlements(pairs: Pairs) -> list[Settlement]:
    return [settlement for settlement, _ in pairs.values()]


def pair_all(calls: Iterable[Call], requests: Mapping[tuple[str, int], Request]) -> Pairing:
    """Compare the journal with the settlements of all requests, by tenant and the tenant's number of the request."""
    result, by_request = Pairing(), dict[tuple[str, int], list[Call]]()
    for call in calls:
        result.calls += 1
        by_request.setdefault((call.tenant, call.request), []).append(call)
    for key, own_calls in by_request.items():
        if key not in requests:
            result.unpaired += [f"call {call.number} of {call.price_key} has no reservation" for call in own_calls]
            result.kinds["no reservation"] += len(own_calls)
    for key, request in requests.items():
        own_calls = by_request.get(key, [])
        pairs, left = pair_request(own_calls, request)
        result.verdicts.update(how for _, how in pairs.values())
        result.without_call += sum(settlement.outcome == "exposed" for settlement in left)
        _report(result, request, [call for call in own_calls if call not in pairs], left)
    return result


def _report(result: Pairing, request: Request, unsettled: Sequence[Call], left: Sequence[Settlement]) -> None:
    settled = "; ".join(map(str, request.settlements)) or "nothing"
    for call in unsettled:
        result.unpaired.append(
            f"{request.request_id}: call {call.number} of {call.price_key} ({call.end}, {call.tokens}) "
            f"is not settled: there is {settled}"
        )
    only_lease = any(settlement.attempt == 0 and settlement.outcome == "exposed" for settlement in left)
    result.kinds["only the lease was exposed" if only_lease else "not of its candidate"] += len(unsettled)
    for settlement in left:
        if settlement.outcome == "billed" or settlement.cost:
            result.unpaired.append(f"{request.request_id}: billed without a call: {settlement}")
            result.kinds["billed without a call"] += 1
