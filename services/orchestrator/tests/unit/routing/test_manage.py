"""What operators do to routes, and what is refused with the name at fault."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
import pytest
from argosy.orchestration.v1 import routes_pb2 as pb
from chassis.errors import ArgosyError, InvalidRequest, PermissionDenied, Unavailable
from chassis.tenancy import Principal, as_caller
from chassis.testing import FakeClock, a_caller
from orchestrator.administration.grpc import RouteServicer
from orchestrator.configuration.model import Edit
from orchestrator.flags.snapshot import FlagCache
from orchestrator.reservations.model import TokenBound
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.manage import ManageRoutes
from orchestrator.routing.model import (
    FallbackCycle,
    ModelNotFound,
    RouteNotFound,
    RouteVersionConflict,
    Task,
    UnknownUpstream,
    UnpricedCandidate,
)
from orchestrator.routing.policy import Capabilities
from orchestrator.routing.scores import MIN_CALLS
from orchestrator.workers.model import CallOutcome, Candidate, ProviderCall

from services.orchestrator.tests.fake_flags import FakeFlagStore, snapshot_of, switch
from services.orchestrator.tests.fakes import FakeRouteStore

EDIT = Edit("usr_1", "a trial")
ADMIN = Principal("platform", user_id="usr_1", roles=frozenset({"platform_admin"}))
A1, A2, B1 = ({"upstream": upstream, "model": model} for upstream, model in (("a", "1"), ("a", "2"), ("b", "1")))


class FakeFacts:
    """Implements `RouteFacts`. While `down` is set it is unavailable."""

    down = False

    async def upstreams(self) -> Collection[str]:
        return {"a", "b", "local", "minilm"}

    async def priced(self) -> Collection[str]:
        if self.down:
            raise Unavailable("metering does not answer")
        return {"a/1", "a/2", "b/1", "c/1", "local/smollm2-135m-instruct"}


@pytest.fixture
def store() -> FakeRouteStore:
    return FakeRouteStore()


@pytest.fixture
def manage(store: FakeRouteStore) -> ManageRoutes:
    return ManageRoutes(store, RouteCache(store, FakeClock(), store.table), FakeFacts())


@pytest.fixture
def servicer(manage: ManageRoutes) -> RouteServicer:
    flags = FlagCache(FakeFlagStore(), snapshot_of(switch("upstream.b", default="off")))
    return RouteServicer(manage, flags, FakeClock())


async def test_a_change_is_in_force_here_before_the_call_returns(manage: ManageRoutes, store: FakeRouteStore) -> None:
    stored = await manage.put("*", "gpt", {"strategy": "weighted", "candidates": [A1, A2]}, EDIT)

    assert stored.version == 1
    assert len(manage.cache.table().resolve("ten_1", "gpt", Task.CHAT).candidates) == 2
    assert [(one.author, one.reason) for one in store.log.changes] == [("usr_1", "a trial")]
    await manage.delete("*", "gpt", EDIT)
    with pytest.raises(ModelNotFound):
        manage.cache.table().resolve("ten_1", "gpt", Task.CHAT)


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ({"candidates": [A1, {"upstream": "nowhere", "model": "1"}]}, UnknownUpstream, "no upstream 'nowhere'"),
        ({"candidates": [A1, {"upstream": "c", "model": "1"}]}, UnknownUpstream, "no upstream 'c'"),
        ({"candidates": [A1, {"upstream": "a", "model": "3"}]}, UnpricedCandidate, "a/3"),
        ({"candidates": [A1], "fallbacks": {"context_overflow": [A1]}}, FallbackCycle, "a/1 is its own fallback"),
        ({"candidates": [A1], "fallbacks": {"content_policy": [A1]}}, FallbackCycle, "a/1"),
        ({"strategy": "weighted", "candidates": [{**A1, "weight": 0}]}, InvalidRequest, "sum to 0"),
        (
            {"strategy": "weighted", "candidates": [A1, {**A2, "weight": 0, "priority": 1}]},
            InvalidRequest,
            "priority 1 sum to 0",
        ),
        ({"candidates": []}, InvalidRequest, "no candidates"),
        ({"candidates": [A1, A1]}, InvalidRequest, "a/1 is listed twice"),
        ({"candidates": [A1], "right_sizing": {"cheap": ["b/1"]}}, InvalidRequest, "b/1 is no candidate"),
        ({"candidates": [A1], "speed": "fast"}, InvalidRequest, "speed"),
    ],
)
async def test_a_route_that_could_not_work_is_refused_and_named(
    manage: ManageRoutes, store: FakeRouteStore, document: dict[str, Any], error: type[ArgosyError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await manage.put("*", "gpt", document, EDIT)

    assert store.log.changes == []


async def test_a_tenants_empty_route_hides_the_model_and_needs_no_peer(manage: ManageRoutes) -> None:
    manage.facts.down = True  # type: ignore[attr-defined]

    await manage.put("ten_1", "smollm2", {"candidates": []}, EDIT)

    with pytest.raises(ModelNotFound):
        manage.cache.table().resolve("ten_1", "smollm2", Task.CHAT)


async def test_while_prices_are_not_known_no_route_is_written(manage: ManageRoutes, store: FakeRouteStore) -> None:
    manage.facts.down = True  # type: ignore[attr-defined]

    with pytest.raises(Unavailable):
        await manage.put("*", "gpt", {"candidates": [A1]}, EDIT)

    assert store.log.changes == []


async def test_a_change_of_another_version_is_refused(manage: ManageRoutes) -> None:
    document = {"candidates": [A1]}
    with pytest.raises(RouteVersionConflict):
        await manage.put("*", "gpt", document, EDIT, expected_version=3)
    await manage.put("*", "gpt", document, EDIT, expected_version=0)
    with pytest.raises(RouteVersionConflict):
        await manage.put("*", "gpt", document, EDIT, expected_version=0)
    # The demo's routes were written before versions were kept.
    with pytest.raises(RouteVersionConflict):
        await manage.put("*", "smollm2", document, EDIT, expected_version=0)

    assert (await manage.put("*", "gpt", {"candidates": [A2]}, EDIT, expected_version=1)).version == 2


async def test_what_does_not_exist_and_what_has_no_reason_is_refused(manage: ManageRoutes) -> None:
    for call in (manage.get("*", "gpt"), manage.delete("*", "gpt", EDIT), manage.get("ten_1", "smollm2")):
        with pytest.raises(RouteNotFound):
            await call
    for call in (manage.put("*", "gpt", {"candidates": [A1]}, Edit("usr_1")), manage.delete("*", "gpt", Edit("usr_1"))):
        with pytest.raises(InvalidRequest, match="reason"):
            await call


async def test_candidates_have_the_capabilities_of_their_upstream_unless_they_say_otherwise(
    manage: ManageRoutes,
) -> None:
    able = {**A1, "capabilities": {"tools": True}}
    await manage.put("*", "gpt", {"candidates": [able, A2]}, EDIT)

    manage.cache.set_capabilities({"a": Capabilities(tools=False, context_tokens=100)})

    first, second = manage.cache.table().resolve("ten_1", "gpt", Task.CHAT).candidates
    assert first.capabilities == Capabilities(tools=True, context_tokens=100)
    assert second.capabilities == Capabilities(tools=False, context_tokens=100)
    await manage.put("*", "gpt", {"candidates": [A2]}, EDIT)
    assert manage.cache.table().resolve("ten_1", "gpt", Task.CHAT).candidates == (second,)
    manage.cache.set_capabilities({})
    assert manage.cache.table().resolve("ten_1", "gpt", Task.CHAT).candidates[0].capabilities == Capabilities()


async def put(servicer: RouteServicer, model: str, document: dict[str, Any], tenant_id: str = "*") -> pb.Route:
    request = pb.PutRouteRequest(tenant_id=tenant_id, model=model, document=orjson.dumps(document), reason="a trial")
    return (await servicer.PutRoute(request, None)).route


async def test_by_the_api_a_route_is_put_read_listed_and_deleted(servicer: RouteServicer) -> None:
    with as_caller(a_caller(ADMIN)):
        route = await put(servicer, "gpt", {"candidates": [A1]}, "ten_1")
        found = (await servicer.GetRoute(pb.GetRouteRequest(tenant_id="ten_1", model="gpt"), None)).route
        listed = (await servicer.ListRoutes(pb.ListRoutesRequest(tenant_id="ten_1"), None)).routes
        every = (await servicer.ListRoutes(pb.ListRoutesRequest(), None)).routes
        await servicer.DeleteRoute(pb.DeleteRouteRequest(tenant_id="ten_1", model="gpt", reason="a trial"), None)
        left = (await servicer.ListRoutes(pb.ListRoutesRequest(tenant_id="ten_1"), None)).routes

    assert route == found == next(iter(listed))
    assert orjson.loads(route.document)["strategy"] == "ordered"
    assert [one.model for one in every] == ["all-minilm-l6-v2", "gpt", "smollm2"]
    assert not left


async def resolve(servicer: RouteServicer, **fields: Any) -> tuple[list[tuple[str, int, str]], pb.ResolveRouteResponse]:
    """Return upstream/model, position and code of each candidate, and the response."""
    with as_caller(a_caller(ADMIN)):
        request = pb.ResolveRouteRequest(**{"tenant_id": "ten_1", "model": "gpt", "request_id": "req_1", **fields})
        response = await servicer.ResolveRoute(request, None)
    return [(f"{one.upstream}/{one.model}", one.position, one.code) for one in response.candidates], response


async def test_a_dry_run_says_why_each_candidate_is_tried_or_passed_over(servicer: RouteServicer) -> None:
    document = {
        "candidates": [
            {**A1, "capabilities": {"tools": False}},
            {**A2, "conditions": {"plans": ["pro"]}},
            B1,
            {"upstream": "local", "model": "smollm2-135m-instruct"},
        ],
        "fallbacks": {"content_policy": [A2]},
    }
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]}
    with as_caller(a_caller(ADMIN)):
        await put(servicer, "gpt", document)

    found, response = await resolve(servicer, plan="free", body=orjson.dumps(body))

    assert found == [
        ("local/smollm2-135m-instruct", 1, "ordered"),
        ("a/2", 2, "content_policy"),
        ("a/1", 0, "tools"),
        ("a/2", 0, "plan"),
        ("b/1", 0, "upstream_off"),
    ]
    assert (response.tenant_id, dict(response.flags)) == ("*", {"upstream.b": "off"})
    assert all(one.priced for one in response.candidates)
    assert all(one.reason for one in response.candidates)
    found, _ = await resolve(servicer, plan="pro")
    assert [one[:2] for one in found if one[1]] == [
        ("a/1", 1),
        ("a/2", 2),
        ("local/smollm2-135m-instruct", 3),
        ("a/2", 4),
    ]


async def test_a_dry_run_tries_a_route_that_is_not_in_force_and_stores_nothing(
    servicer: RouteServicer, store: FakeRouteStore
) -> None:
    draft = {"strategy": "weighted", "candidates": [A1, {**A2, "weight": 0}]}

    found, _ = await resolve(servicer, model="new", document=orjson.dumps(draft))

    assert found == [("a/1", 1, "weighted"), ("a/2", 2, "weighted")]
    assert store.log.changes == []
    with pytest.raises(UnknownUpstream):
        await resolve(servicer, model="new", document=orjson.dumps({"candidates": [{"upstream": "c", "model": "1"}]}))


async def test_a_dry_run_agrees_with_what_requests_get(servicer: RouteServicer, manage: ManageRoutes) -> None:
    with as_caller(a_caller(ADMIN)):
        await put(servicer, "smollm2", {"candidates": [A1, A2], "right_sizing": {"cheap": ["a/2"]}}, "ten_1")

    found, response = await resolve(servicer, model="smollm2")

    assert found == [("a/2", 1, "right_sizing"), ("a/1", 2, "right_sizing")]
    assert response.tenant_id == "ten_1"
    assert (await resolve(servicer, model="smollm2", tenant_id="ten_2"))[1].tenant_id == "*"
    embedding, _ = await resolve(servicer, model="all-minilm-l6-v2")
    assert embedding == [("minilm/all-minilm-l6-v2", 1, "ordered")]


async def test_a_dry_run_tells_the_expected_time_of_the_fastest(servicer: RouteServicer, manage: ManageRoutes) -> None:
    draft = {"strategy": "fastest", "candidates": [A1, A2]}
    one, other = ([Candidate("a", model, TokenBound(f"a/{model}", 1, 1))] for model in "12")
    for _ in range(MIN_CALLS):
        manage.cache.scores.learn(one, [ProviderCall(0, CallOutcome.SUCCEEDED, 0.5, 2.0)], stream=True)
        manage.cache.scores.learn(other, [ProviderCall(0, CallOutcome.SUCCEEDED, 0.1, 1.0)], stream=True)

    found, response = await resolve(
        servicer, model="new", document=orjson.dumps(draft), request_id="req_1", stream=True
    )

    assert found == [("a/2", 1, "fastest"), ("a/1", 2, "fastest")]
    assert [one.reason.split(": ")[1] for one in response.candidates] == ["0.100 s expected", "0.500 s expected"]
    _, response = await resolve(servicer, model="new", document=orjson.dumps(draft), request_id="req_1")
    assert "too few calls" in response.candidates[0].reason


async def test_embeddings_are_not_routed_by_their_time(manage: ManageRoutes) -> None:
    with pytest.raises(InvalidRequest, match="fastest"):
        await manage.checked("*", "vectors", {"task": "embedding", "strategy": "fastest", "candidates": [A1]})


async def test_a_dry_run_of_an_unknown_model_or_a_bad_body_is_refused(servicer: RouteServicer) -> None:
    with pytest.raises(ModelNotFound):
        await resolve(servicer, model="unknown")
    with pytest.raises(InvalidRequest):
        await resolve(servicer, model="smollm2", body=b"{}")
    with pytest.raises(InvalidRequest):
        await resolve(servicer, model="smollm2", body=b" " * 1_000_001)


async def test_only_administrators_see_routes(servicer: RouteServicer) -> None:
    with as_caller(a_caller(Principal("ten_1", roles=frozenset({"member"})))):
        for call in (
            servicer.ListRoutes(pb.ListRoutesRequest(), None),
            servicer.ResolveRoute(pb.ResolveRouteRequest(), None),
            servicer.PutRoute(pb.PutRouteRequest(reason="a"), None),
            servicer.DeleteRoute(pb.DeleteRouteRequest(reason="a"), None),
        ):
            with pytest.raises(PermissionDenied):
                await call
