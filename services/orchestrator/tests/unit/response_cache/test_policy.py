import pytest
from orchestrator.response_cache.model import CacheControl, CacheMode, CachePolicy, Charge, ExactMode
from orchestrator.response_cache.policy import mode_of


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
