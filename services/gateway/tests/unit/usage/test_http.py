"""`/v1/usage`, `/v1/budgets`, `/v1/requests/{id}`."""

from datetime import UTC, datetime

import httpx
import pytest

from services.gateway.tests.fakes.accounts import an_account
from services.gateway.tests.fakes.world import World


async def test_usage_is_summed_up(world: World, demo: httpx.AsyncClient) -> None:
    said = (await demo.get("/v1/usage")).json()

    assert said == {
        "object": "list",
        "data": [
            {
                "object": "usage",
                "day": None,
                "price_key": "local/m",
                "calls": 2,
                "input_tokens": 10,
                "output_tokens": 20,
                "cost_usd": "0.0000045",
            }
        ],
        "total_usd": "0.0000045",
        "has_more": False,
    }
    assert world.accounts.spans == [(None, None, False)]


async def test_usage_is_asked_by_day_and_span(world: World, demo: httpx.AsyncClient) -> None:
    params: dict[str, str] = {"start": "1767225600", "end": "2026-01-03T00:00:00Z", "by_day": "true"}
    said = (await demo.get("/v1/usage", params=params)).json()

    assert said["data"][0]["day"] == 1767312000
    assert world.accounts.spans == [(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC), True)]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-01-01T00:00:00"}, "start"),
        ({"start": "0001-01-01T00:00:00+14:00"}, "start"),
        ({"end": "9999-12-31T23:59:59-14:00"}, "end"),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-02T00:00:00Z"}, "end"),
        ({"by_day": "maybe"}, "by_day"),
    ],
)
async def test_a_span_that_makes_no_sense_is_refused(
    demo: httpx.AsyncClient, params: dict[str, str], param: str
) -> None:
    answer = await demo.get("/v1/usage", params=params)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_budget_of_the_tenant_is_shown(world: World, demo: httpx.AsyncClient) -> None:
    (budget,) = (await demo.get("/v1/budgets")).json()["data"]

    assert budget == {
        "object": "budget",
        "tenant_id": world.tenants["demo"],
        "cap_usd": "100",
        "spent_usd": "0.000000025",
        "held_usd": "0",
    }


async def test_the_account_of_a_request_is_whole(world: World, demo: httpx.AsyncClient) -> None:
    world.accounts.requests[world.tenants["demo"], "req_1"] = an_account("req_1")

    said = (await demo.get("/v1/requests/req_1")).json()

    assert (said["id"], said["object"], said["cost_usd"], said["cost_nano_usd"]) == (
        "req_1",
        "request",
        "0.0000007",
        700,
    )
    assert said["reservation"]["state"] == "settled"
    assert said["reservation"]["held_usd"] == "0.0000009"
    exposed, billed = said["settlements"]
    assert exposed["outcome"] == "exposed"
    assert exposed["usage"] == {"input_tokens": None, "output_tokens": None, "source": "unknown"}
    assert (billed["cost_usd"], billed["cost_nano_usd"], billed["price_key"]) == ("0.0000007", 700, "local/m")
    assert billed["usage"] == {"input_tokens": 3, "output_tokens": 0, "source": "counted"}
    assert [entry["amount_nano_usd"] for entry in said["ledger_entries"]] == [700, -700]
    assert [entry["amount_usd"] for entry in said["ledger_entries"]] == ["0.0000007", "-0.0000007"]


async def test_a_request_that_is_not_settled_has_no_cost_yet(world: World, demo: httpx.AsyncClient) -> None:
    world.accounts.requests[world.tenants["demo"], "req_1"] = an_account("req_1", settled=False)

    said = (await demo.get("/v1/requests/req_1")).json()

    assert said["cost_usd"] is None
    assert said["settlements"] == []
    assert said["reservation"]["state"] == "held"


async def test_another_tenants_request_is_not_found(world: World, other: httpx.AsyncClient) -> None:
    world.accounts.requests[world.tenants["demo"], "req_1"] = an_account("req_1")

    answer = await other.get("/v1/requests/req_1")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "request_not_found")
