from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from orchestrator.response_cache.model import CacheControl, CacheMode, CachePolicy, Charge, ExactMode
from orchestrator.response_cache.policy import by_route, mode_of
from orchestrator.routing import policy as routes
from orchestrator.routing.model import Route, Task


@pytest.mark.parametrize(
    ("exact", "asked", "mode"),
    [
        (ExactMode.ON, None, CacheMode.ON),
        (ExactMode.ON, CacheMode.OFF, CacheMode.OFF),
        (ExactMode.ON, CacheMode.READ, CacheMode.READ),
        (ExactMode.ON_REQUEST, None, CacheMode.OFF),
        (ExactMode.ON_REQUEST, CacheMode.ON, CacheMode.ON),
        (ExactMode.ON_REQUEST, CacheMode.WRITE, CacheMode.WRITE),
        (ExactMode.OFF, CacheMode.ON, CacheMode.OFF),
    ],
)
def test_a_request_turns_the_cache_on_where_its_route_allows_it(
    exact: ExactMode, asked: CacheMode | None, mode: CacheMode
) -> None:
    assert mode_of(CachePolicy(exact), None if asked is None else CacheControl(asked)) is mode


@pytest.mark.parametrize(("charge", "off"), [(Charge.FREE, 100), (Charge.DISCOUNTED, 60), (Charge.FULL, 0)])
def test_a_charge_is_a_percentage_off_the_price(charge: Charge, off: int) -> None:
    assert CachePolicy(charge=charge, discount_percent=60).percent_off == off


def a_route(cache: routes.CachePolicy) -> Route:
    return Route("gpt", Task.CHAT, (), datetime(2026, 1, 1, tzinfo=UTC), routes.RoutePolicy(cache=cache))


def test_a_route_with_a_cache_has_its_own_policy_and_others_have_that_of_the_settings() -> None:
    default = CachePolicy(ttl=timedelta(seconds=7))
    own = routes.CachePolicy(
        exact=True,
        ttl_seconds=60,
        stale_if_error_seconds=30,
        charge=routes.Charge.DISCOUNTED,
        discount_percent=20,
    )
    policy_of = by_route(default)

    assert policy_of(a_route(routes.CachePolicy())) is default
    disabled = policy_of(a_route(routes.CachePolicy(disabled=True)))
    assert mode_of(disabled, CacheControl(CacheMode.ON)) is CacheMode.OFF
    found = policy_of(a_route(own))
    assert (found.exact, found.ttl, found.stale_if_error) == (
        ExactMode.ON,
        timedelta(seconds=60),
        timedelta(seconds=30),
    )
    assert found.percent_off == 20
    assert found.semantic_threshold is None
    by_meaning = policy_of(a_route(replace(own, semantic=True, threshold=0.9)))
    assert by_meaning.semantic_threshold == 0.9
