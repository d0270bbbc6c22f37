"""Which candidates can take a request, and in which order they are tried."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from orchestrator.routing.eligibility import PassedOver, RequestFacts, why_passed_over
from orchestrator.routing.model import NoEligibleCandidate, Route, RouteCandidate, Task
from orchestrator.routing.order import EXPLORED, Choice, Measures, choose, is_explored
from orchestrator.routing.policy import Capabilities, Conditions, RightSizing, RoutePolicy, Strategy
from orchestrator.routing.prices import LearnedPrices
from orchestrator.workers.model import AnswerCheck, CandidateRole
from values.money import NanoUsd, Price

A, B, C = (RouteCandidate(name, "m", 1000) for name in "abc")
EASY = RoutePolicy(right_sizing=RightSizing(frozenset({"b/m"}), hard_words=frozenset({"prove"})))


def route(*candidates: RouteCandidate, policy: RoutePolicy | None = None) -> Route:
    return Route("gpt", Task.CHAT, candidates, datetime(2026, 1, 1, tzinfo=UTC), policy or RoutePolicy())


def order_of(chosen: Route, facts: RequestFacts | None = None, seed: str = "req_1") -> str:
    return "".join(one.upstream for one in choose(chosen, facts or RequestFacts(), seed).candidates)


@pytest.mark.parametrize(
    ("candidate", "facts", "reason"),
    [
        (A, RequestFacts(tools=True, vision=True, audio=True, json_schema=True, input_bytes=10**9), None),
        (replace(A, capabilities=Capabilities(tools=False)), RequestFacts(tools=True), PassedOver.TOOLS),
        (replace(A, capabilities=Capabilities(tools=False)), RequestFacts(), None),
        (replace(A, capabilities=Capabilities(vision=False)), RequestFacts(vision=True), PassedOver.VISION),
        (replace(A, capabilities=Capabilities(audio=False)), RequestFacts(audio=True), PassedOver.AUDIO),
        (
            replace(A, capabilities=Capabilities(json_schema=False)),
            RequestFacts(json_schema=True),
            PassedOver.JSON_SCHEMA,
        ),
        (replace(A, capabilities=Capabilities(context_tokens=10)), RequestFacts(input_bytes=40), None),
        (replace(A, capabilities=Capabilities(context_tokens=10)), RequestFacts(input_bytes=41), PassedOver.CONTEXT),
        (A, RequestFacts(output_limit=1000), None),
        (A, RequestFacts(output_limit=1001), PassedOver.OUTPUT),
        (replace(A, conditions=Conditions(plans=frozenset({"pro"}))), RequestFacts(plan="pro"), None),
        (replace(A, conditions=Conditions(plans=frozenset({"pro"}))), RequestFacts(plan="free"), PassedOver.PLAN),
        (replace(A, conditions=Conditions(countries=frozenset({"DE"}))), RequestFacts(), PassedOver.COUNTRY),
        (replace(A, conditions=Conditions(tags=(("team", frozenset({"x"})),))), RequestFacts(tags={"team": "x"}), None),
        (replace(A, conditions=Conditions(tags=(("team", frozenset({"x"})),))), RequestFacts(), PassedOver.TAGS),
    ],
)
def test_what_a_candidate_cannot_take_passes_it_over(
    candidate: RouteCandidate, facts: RequestFacts, reason: PassedOver | None
) -> None:
    assert why_passed_over(candidate, facts) is reason


def test_without_a_policy_candidates_are_tried_as_they_are_written() -> None:
    assert order_of(route(C, A, B)) == "cab"


def test_groups_are_tried_by_priority() -> None:
    assert order_of(route(replace(A, priority=1), B, replace(C, priority=1))) == "bac"


def test_a_request_that_no_candidate_can_take_is_refused_with_a_reason_for_each() -> None:
    blind = [replace(one, capabilities=Capabilities(vision=False)) for one in (A, B)]

    with pytest.raises(NoEligibleCandidate, match=r"a/m: it reads no images; b/m: it reads no images"):
        order_of(route(*blind), RequestFacts(vision=True))


def test_ten_thousand_requests_are_shared_by_weight() -> None:
    weighted = route(
        replace(A, weight=70), replace(B, weight=20), replace(C, weight=10), policy=RoutePolicy(Strategy.WEIGHTED)
    )

    first = Counter(order_of(weighted, seed=f"req_{number}")[0] for number in range(10_000))

    # Four standard deviations of a binomial are at most 184.
    assert all(abs(first[name] - share) < 184 for name, share in (("a", 7_000), ("b", 2_000), ("c", 1_000)))


def test_the_same_seed_gives_the_same_order_and_a_lost_candidate_moves_only_its_own_requests() -> None:
    policy = RoutePolicy(Strategy.WEIGHTED)
    for number in range(200):
        order = order_of(route(A, B, C, policy=policy), seed=str(number))

        assert order_of(route(C, B, A, policy=policy), seed=str(number)) == order
        assert order_of(route(A, B, policy=policy), seed=str(number)) == order.replace("c", "")


def test_a_candidate_of_weight_zero_is_tried_last() -> None:
    spare = route(replace(A, weight=0), B, C, policy=RoutePolicy(Strategy.WEIGHTED))

    assert {order_of(spare, seed=str(number))[-1] for number in range(50)} == {"a"}


def test_a_candidate_whose_context_may_be_too_short_comes_after_those_that_surely_fit() -> None:
    short = replace(A, capabilities=Capabilities(context_tokens=100))

    assert order_of(route(short, B), RequestFacts(input_bytes=100)) == "ab"
    assert order_of(route(short, B), RequestFacts(input_bytes=101)) == "ba"


def test_fallbacks_come_last_with_their_roles() -> None:
    overflow = replace(B, role=CandidateRole.CONTEXT_OVERFLOW)
    content = replace(C, role=CandidateRole.CONTENT_POLICY)

    chosen = choose(route(content, overflow, A), RequestFacts(), "req_1")

    assert chosen.candidates == (A, overflow, content)


def test_a_request_that_is_too_long_for_all_goes_to_the_fallback_for_that_at_once() -> None:
    short = replace(A, capabilities=Capabilities(context_tokens=10))
    overflow = replace(B, role=CandidateRole.CONTEXT_OVERFLOW)

    assert choose(route(short, overflow), RequestFacts(input_bytes=1_000), "req_1").candidates == (B,)


def test_the_cheapest_candidate_is_known_after_one_request() -> None:
    prices = LearnedPrices()
    cheapest = route(A, B, policy=RoutePolicy(Strategy.CHEAPEST))
    prices.learn([Price("a/m", "1", NanoUsd(9), NanoUsd(9)), Price("b/m", "1", NanoUsd(1), NanoUsd(1))])

    chosen = choose(cheapest, RequestFacts(input_bytes=100), "req_1", Measures(cost=prices.cost))

    assert chosen.candidates == (B, A)


@pytest.mark.parametrize(
    ("facts", "order"),
    [
        (RequestFacts(input_bytes=100), "ba"),
        (RequestFacts(input_bytes=2_001), "ab"),
        (RequestFacts(input_bytes=100, tools=True), "ab"),
        (RequestFacts(input_bytes=100, last_text="Please PROVE, that"), "ab"),
    ],
)
def test_easy_requests_go_to_cheap_candidates_first(facts: RequestFacts, order: str) -> None:
    assert order_of(route(A, B, policy=EASY), facts) == order


@pytest.mark.parametrize(("json_answer", "check"), [(True, AnswerCheck.JSON), (False, AnswerCheck.NOT_EMPTY)])
def test_the_answer_of_a_cheap_candidate_is_checked(json_answer: bool, check: AnswerCheck) -> None:
    chosen = choose(route(A, B, policy=EASY), RequestFacts(json_answer=json_answer), "req_1")

    assert chosen.checks == {"b/m": check}


@pytest.mark.parametrize(
    ("candidates", "facts", "cheap"),
    [
        ((A, B), RequestFacts(), 1),
        ((B, A), RequestFacts(), 1),
        ((A, B, replace(B, max_output_tokens=2_000)), RequestFacts(), 2),
        ((A, B), RequestFacts(tools=True), 0),
        ((A, C), RequestFacts(), 0),
        ((replace(A, capabilities=Capabilities(vision=False)), B), RequestFacts(vision=True), 0),
        ((A, *(replace(B, max_output_tokens=1_000 + n) for n in range(16))), RequestFacts(), 0),
    ],
)
def test_a_choice_says_how_many_cheap_candidates_an_easy_request_tries_before_the_others(
    candidates: tuple[RouteCandidate, ...], facts: RequestFacts, cheap: int
) -> None:
    assert choose(route(*candidates, policy=EASY), facts, "req_1").cheap == cheap


def test_the_fastest_candidate_comes_first_but_for_one_request_in_a_hundred() -> None:
    delays = {"a": 0.5, "b": 0.1, "c": 3.0}
    known = Measures(delay=lambda one, _facts: delays[one.upstream])
    fastest = route(A, B, C, policy=RoutePolicy(Strategy.FASTEST))

    seeds = [f"req_{number}" for number in range(10_000)]
    orders = {
        seed: "".join(one.upstream for one in choose(fastest, RequestFacts(), seed, known).candidates) for seed in seeds
    }
    explored = [seed for seed in seeds if is_explored(seed)]

    assert {order for seed, order in orders.items() if not is_explored(seed)} == {"bac"}
    # Four standard deviations of a binomial are 40.
    assert abs(len(explored) - EXPLORED * len(seeds)) < 40
    assert {orders[seed][0] for seed in explored} == {"a", "b", "c"}


def test_of_equally_fast_candidates_each_has_its_share() -> None:
    fastest = route(A, B, policy=RoutePolicy(Strategy.FASTEST))

    first = Counter(order_of(fastest, seed=f"req_{number}")[0] for number in range(1_000))

    assert set(first) == {"a", "b"}


def test_the_slowest_of_a_smaller_priority_is_tried_before_the_fastest_of_a_greater() -> None:
    known = Measures(delay=lambda one, _facts: 9.0 if one is A else 0.1)
    grouped = route(replace(B, priority=1), A, policy=RoutePolicy(Strategy.FASTEST))

    assert [one.upstream for one in choose(grouped, RequestFacts(), "req_1", known).candidates] == ["a", "b"]


OVERFLOW = replace(C, role=CandidateRole.CONTEXT_OVERFLOW)
CONTENT = replace(C, role=CandidateRole.CONTENT_POLICY)


@pytest.mark.parametrize(
    ("fixed_up_to", "one"),
    [
        (1000, route(A)),
        (1000, route(C, A, B)),
        (10, route(A, replace(B, max_output_tokens=10), OVERFLOW, CONTENT)),
        (1000, route(replace(A, capabilities=Capabilities(tools=True, vision=True)))),
        (1000, route(A, replace(B, priority=1))),
        (1000, route(A, OVERFLOW, policy=RoutePolicy(Strategy.CHEAPEST))),
        (-1, route()),
        (-1, route(OVERFLOW)),
        (-1, route(replace(A, priority=1), B)),
        (-1, route(A, CONTENT, OVERFLOW)),
        (-1, route(A, B, policy=RoutePolicy(Strategy.WEIGHTED))),
        (-1, route(A, B, policy=EASY)),
        (-1, route(A, replace(B, capabilities=Capabilities(tools=False)))),
        (-1, route(A, replace(B, capabilities=Capabilities(context_tokens=10)))),
        (-1, route(replace(A, conditions=Conditions(plans=frozenset({"pro"}))))),
        (-1, route(*[A] * 17)),
    ],
)
def test_a_route_that_asks_nothing_of_a_request_has_one_choice_for_all(fixed_up_to: int, one: Route) -> None:
    assert one.fixed_up_to == fixed_up_to
    requests = [
        RequestFacts(),
        RequestFacts(tools=True, vision=True, audio=True, json_schema=True, input_bytes=10**9, stream=True),
        RequestFacts(plan="free", country="DE", tags={"team": "x"}),
    ]
    for facts in requests if fixed_up_to >= 0 else ():
        assert choose(one, facts, "req_1") == Choice(one.candidates)
        assert choose(one, facts._replace(output_limit=fixed_up_to), "req_1") == Choice(one.candidates)
