"""Says what would happen to a request: which candidates would be tried, in which order, and why others would not."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from chassis.tenancy import Principal

from orchestrator.chat.facts import facts_of, seed_of
from orchestrator.chat.media import find_media
from orchestrator.chat.model import ChatRequest
from orchestrator.chat.parse import parse_chat
from orchestrator.flags.model import FlagContext, FlagKind
from orchestrator.flags.snapshot import FlagSnapshot, Variants
from orchestrator.flags.switches import require_model, require_tools
from orchestrator.routing.eligibility import PassedOver, RequestFacts, why_passed_over
from orchestrator.routing.model import TASK_TO_FEATURE, NoEligibleCandidate, Route, RouteCandidate, Task
from orchestrator.routing.order import Measures, choose, is_easy, is_explored
from orchestrator.routing.policy import Strategy
from orchestrator.workers.model import CandidateRole

SHORT_TEXT: Final = b'{"messages":[{"role":"user","content":"Hello"}]}'
UPSTREAM_OFF: Final = "upstream_off"

_PLACES: Final = {
    Strategy.ORDERED: "by its priority, in the order of the route",
    Strategy.WEIGHTED: "by its priority, and a draw by weight for this request",
    Strategy.CHEAPEST: "by its priority, and what the request can cost at most",
}
_ROLES: Final = {
    CandidateRole.CONTEXT_OVERFLOW: "only after a candidate has refused the request as too long",
    CandidateRole.CONTENT_POLICY: "only after a candidate has refused the request by its content policy",
}


@dataclass(frozen=True, slots=True)
class ResolvedCandidate:
    """A candidate, and why it is tried where it is, or is not."""

    candidate: RouteCandidate
    position: int
    """From 1, in the order of the plan; 0 when it is passed over."""
    code: str
    reason: str
    priced: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """What would happen to a request."""

    task: Task
    candidates: tuple[ResolvedCandidate, ...]
    flags: Variants


@dataclass(frozen=True, slots=True)
class DryRun:
    """A request that is not made."""

    principal: Principal
    model: str
    body: bytes = b""
    """Of a chat completion; empty for a short text."""
    stream: bool = False
    request_id: str = ""


def resolve(run: DryRun, route: Route, flags: FlagSnapshot, known: Measures, priced: Collection[str]) -> Resolution:
    """Choose as for a request. Raises InvalidRequest for a body that is none, FeatureDisabled for what is off."""
    evaluated: Variants = {}
    require_model(flags, TASK_TO_FEATURE[route.task], run.model, run.principal, evaluated)
    facts, seed = _facts(run, route, flags, evaluated)
    off = {
        one.upstream
        for one in route.candidates
        if not flags.is_on(FlagKind.UPSTREAM, one.upstream, _context(run, one.upstream), evaluated)
    }
    usable = tuple(one for one in route.candidates if one.upstream not in off)
    try:
        chosen = choose(replace(route, candidates=usable), facts, seed, known).candidates
    except NoEligibleCandidate:
        chosen = ()
    places = {(one.price_key, one.role): place for place, one in enumerate(chosen, 1)}
    tried = [
        ResolvedCandidate(one, place, *_why_tried(one, route, facts, seed, known), one.price_key in priced)
        for place, one in enumerate(chosen, 1)
    ]
    passed_over = [
        _passed_over(one, off, facts, priced)
        for one in route.candidates
        # An overflow candidate that takes the place of all others has another role then.
        if (one.price_key, one.role) not in places and (one.price_key, CandidateRole.PRIMARY) not in places
    ]
    return Resolution(route.task, (*tried, *passed_over), evaluated)


def _facts(run: DryRun, route: Route, flags: FlagSnapshot, evaluated: Variants) -> tuple[RequestFacts, str]:
    if route.task is not Task.CHAT:
        return RequestFacts(run.principal.tenant_id, run.principal.plan), run.request_id
    body = run.body or SHORT_TEXT
    chat = parse_chat(body, max((one.max_output_tokens for one in route.candidates), default=1))
    require_tools(flags, chat.document.get("tools"), run.model, run.principal, evaluated)
    request = ChatRequest(run.request_id, run.principal, run.model, body, stream=run.stream)
    media = find_media(chat.document)
    return facts_of(request, chat, media, route, added=0), seed_of(request, chat, route)


def _why_tried(one: RouteCandidate, route: Route, facts: RequestFacts, seed: str, known: Measures) -> tuple[str, str]:
    """Return a code and a reason."""
    sizing, strategy = route.policy.right_sizing, route.policy.strategy
    if one.role in _ROLES:
        return one.role.value, _ROLES[one.role]
    if sizing is not None:
        easy, cheap = is_easy(sizing, facts), one.price_key in sizing.cheap
        reason = f"the request is {'easy' if easy else 'not easy'}, and the candidate is {'' if cheap else 'not '}cheap"
        return "right_sizing", reason
    if strategy is Strategy.FASTEST:
        return strategy.value, _expected(one, facts, seed, known)
    return strategy.value, _PLACES[strategy]


def _expected(one: RouteCandidate, facts: RequestFacts, seed: str, known: Measures) -> str:
    if is_explored(seed):
        return "by its priority, and a draw by weight: one request in a hundred tries the others again"
    delay = known.delay(one, facts)
    what = f"{delay:.3f} s expected" if delay else "too few calls in the last hour to tell"
    return f"by its priority, and how fast it is at this replica: {what}"


def _passed_over(
    one: RouteCandidate, off: Collection[str], facts: RequestFacts, priced: Collection[str]
) -> ResolvedCandidate:
    why: PassedOver | None = why_passed_over(one, facts)
    if one.upstream in off:
        code, reason = UPSTREAM_OFF, f"its upstream is switched off: upstream.{one.upstream}"
    elif why is not None:
        code, reason = why.name.lower(), why.value
    else:
        code, reason = "not_reached", "no candidate is left before it, or the plan is full"
    return ResolvedCandidate(one, 0, code, reason, one.price_key in priced)


def _context(run: DryRun, upstream: str) -> FlagContext:
    return FlagContext(run.principal.tenant_id, run.principal.plan, run.model, upstream)
