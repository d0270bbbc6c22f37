"""Orders eligible candidates: by priority group, then by the route's strategy. Pure and reproducible."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import inf, log
from typing import NamedTuple

from orchestrator.routing.eligibility import PassedOver, RequestFacts, surely_fits, why_passed_over
from orchestrator.routing.model import MAX_CANDIDATES, NoEligibleCandidate, Route, RouteCandidate
from orchestrator.routing.policy import RightSizing, Strategy
from orchestrator.workers.model import AnswerCheck, CandidateRole

_RANGE = float(2**64)

Measure = Callable[[RouteCandidate, RequestFacts], float]
"""What candidates are compared by; the smaller is better. Reads memory only."""


def all_equal(_candidate: RouteCandidate, _facts: RequestFacts) -> float:
    """Compare no candidates."""
    return 0


class Measures(NamedTuple):
    """What this process knows of candidates."""

    cost: Measure = all_equal
    """What the request costs at most."""
    delay: Measure = all_equal
    """Seconds until an answer is expected."""


NO_MEASURES = Measures()
EXPLORED = 0.01
"""The share of the requests of `fastest` whose candidates are drawn by weight: else one that was slow once has no
answers that could show that it is fast again."""


class Choice(NamedTuple):
    """The candidates of one request, in the order to try them."""

    candidates: tuple[RouteCandidate, ...]
    """Those in turn, then those after a context overflow, then those after a refusal by content policy."""
    checks: Mapping[str, AnswerCheck] = {}
    """What the answer of a cheap candidate has to be, by its price key; only of answers that are not streamed."""
    cheap: int = 0
    """How many of the first are cheap ones, which an easy request tries before the others; 0 for another request."""


def choose(route: Route, facts: RequestFacts, seed: str, known: Measures = NO_MEASURES) -> Choice:
    """Return the candidates to try for a request; the same `seed` gives the same order.

    A request that is certainly too long for every candidate goes to those for a context overflow at once.
    Raises `NoEligibleCandidate`, which names every candidate.
    """
    primary: list[RouteCandidate] = []
    overflow: list[RouteCandidate] = []
    content: list[RouteCandidate] = []
    lists = {
        CandidateRole.PRIMARY: primary,
        CandidateRole.CONTEXT_OVERFLOW: overflow,
        CandidateRole.CONTENT_POLICY: content,
    }
    for candidate in route.candidates:
        if why_passed_over(candidate, facts) is None:
            lists[candidate.role].append(candidate)
    if not primary and overflow and _too_long(route, facts):
        primary, overflow = [replace(one, role=CandidateRole.PRIMARY) for one in overflow], []
    if not primary:
        raise NoEligibleCandidate(_reasons(route, facts), param="model")
    if len(primary) > 1:
        primary = order(primary, route, facts, seed, known)
    sizing = route.policy.right_sizing
    if sizing is None:
        return Choice((*primary, *overflow, *content)[:MAX_CANDIDATES])
    return _sized(sizing, primary, (*overflow, *content), facts)


def order(
    eligible: Sequence[RouteCandidate], route: Route, facts: RequestFacts, seed: str, known: Measures
) -> list[RouteCandidate]:
    """Order candidates of one role: those whose context surely fits, by priority, by the strategy."""
    strategy = route.policy.strategy
    if strategy is Strategy.ORDERED:
        ordered = sorted(eligible, key=lambda one: one.priority)
    else:
        drawn = _drawn(eligible, seed)
        measure = _measure(strategy, seed, known)
        # Candidates of equal measure share the requests.
        ordered = sorted(eligible, key=lambda one: (one.priority, measure(one, facts), drawn[id(one)]))
    if not all(surely_fits(one, facts) for one in ordered):
        ordered.sort(key=lambda one: not surely_fits(one, facts))
    return ordered


def _measure(strategy: Strategy, seed: str, known: Measures) -> Measure:
    if strategy is Strategy.CHEAPEST:
        return known.cost
    if strategy is Strategy.FASTEST and not is_explored(seed):
        return known.delay
    return all_equal


def is_explored(seed: str) -> bool:
    """Whether a request of the strategy `fastest` is one of those that look at the other candidates, too."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8, person=b"explored").digest()) < EXPLORED * _RANGE


def _drawn(candidates: Sequence[RouteCandidate], seed: str) -> dict[int, float]:
    """Draw a number for each candidate; ascending, they are a weighted random order.

    Efraimidis and Spirakis: -ln(u) / weight. `u` is a hash of the seed and the candidate's name, so taking a candidate
    away moves only the requests that it had (rendezvous hashing).
    """
    start = blake2b(seed.encode(), digest_size=8)
    drawn = {}
    for candidate in candidates:
        if candidate.weight <= 0:
            drawn[id(candidate)] = inf
            continue
        digest = start.copy()
        digest.update(candidate.price_key.encode())
        u = (int.from_bytes(digest.digest()) + 1) / (_RANGE + 1)
        drawn[id(candidate)] = -log(u) / candidate.weight
    return drawn


def _sized(
    sizing: RightSizing, primary: Sequence[RouteCandidate], fallbacks: Sequence[RouteCandidate], facts: RequestFacts
) -> Choice:
    """Put the cheap candidates first for an easy request, and last for another one."""
    cheap = [one for one in primary if one.price_key in sizing.cheap]
    strong = [one for one in primary if one.price_key not in sizing.cheap]
    if not (cheap and strong and is_easy(sizing, facts)):
        return Choice((*strong, *cheap, *fallbacks)[:MAX_CANDIDATES])
    check = AnswerCheck.JSON if facts.json_answer else AnswerCheck.NOT_EMPTY
    checks = {one.price_key: check for one in cheap}
    # Without one that is not cheap in the plan there is nothing to compare their prices with.
    first = len(cheap) if len(cheap) < MAX_CANDIDATES else 0
    return Choice((*cheap, *strong, *fallbacks)[:MAX_CANDIDATES], checks, first)


def is_easy(sizing: RightSizing, facts: RequestFacts) -> bool:
    """Whether no rule speaks against a cheap model."""
    if facts.input_bytes > sizing.max_input_bytes or facts.vision or facts.audio:
        return False
    if (facts.tools and not sizing.allow_tools) or (facts.json_schema and not sizing.allow_json_schema):
        return False
    if not sizing.hard_words and not sizing.easy_words:
        return True
    words = {word.strip(".,;:!?()\"'`") for word in facts.last_text.casefold().split()}
    return words.isdisjoint(sizing.hard_words) and not (sizing.easy_words and words.isdisjoint(sizing.easy_words))


def _too_long(route: Route, facts: RequestFacts) -> bool:
    return any(
        why_passed_over(one, facts) is PassedOver.CONTEXT
        for one in route.candidates
        if one.role is CandidateRole.PRIMARY
    )


def _reasons(route: Route, facts: RequestFacts) -> str:
    reasons = "; ".join(
        f"{one.price_key}: {why_passed_over(one, facts) or 'it is only a fallback'}" for one in route.candidates
    )
    return f"no candidate of {route.model!r} can take this request: {reasons}"
