"""`/v1/usage`, `/v1/requests/{id}`."""

from datetime import UTC, datetime

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.metering import a_statement


async def test_usage_is_summed_up(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    body = (await demo.get("/v1/usage")).json()

    assert body == {
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
                "cache_hits": 0,
                "saved_usd": "0",
                "right_sizing_saved_usd": "-0.00000003",
                "classes": [
                    {"token_class": "cached_input", "tokens": 4, "cost_usd": "0.0000005", "cost_nano_usd": 500},
                    {"token_class": "reasoning_output", "tokens": 20, "cost_usd": "0.000004", "cost_nano_usd": 4000},
                ],
            }
        ],
        "cache": [],
        "time_zone": "UTC",
        "total_usd": "0.0000045",
        "right_sizing_saved_usd": "-0.00000003",
        "right_sizing": [
            {
                "object": "right_sizing_usage",
                "day": None,
                "model": "m",
                "requests": 3,
                "answered": 2,
                "cost_usd": "0.0000001",
                "saved_usd": "-0.00000003",
            }
        ],
        "has_more": False,
    }
    assert gateway.metering.intervals == [(None, None, False)]


async def test_usage_by_day_and_interval(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    params: dict[str, str] = {"start": "1767225600", "end": "2026-01-03T00:00:00Z", "by_day": "true"}
    body = (await demo.get("/v1/usage", params=params)).json()

    assert body["data"][0]["day"] == body["right_sizing"][0]["day"] == 1767312000
    assert gateway.metering.intervals == [(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC), True)]


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
async def test_an_invalid_interval_is_refused(demo: httpx.AsyncClient, params: dict[str, str], param: str) -> None:
    response = await demo.get("/v1/usage", params=params)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_the_statement_of_a_request_has_every_field(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.metering.statements[gateway.tenants["demo"], "req_1"] = a_statement("req_1")

    body = (await demo.get("/v1/requests/req_1")).json()

    assert (body["id"], body["object"], body["cost_usd"], body["cost_nano_usd"]) == (
        "req_1",
        "request",
        "0.0000007",
        700,
    )
    assert body["reservation"]["state"] == "settled"
    assert body["reservation"]["held_usd"] == "0.0000009"
    exposed, billed = body["settlements"]
    assert exposed["outcome"] == "exposed"
    assert exposed["usage"] == {"input_tokens": None, "output_tokens": None, "source": "unknown"}
    assert (billed["cost_usd"], billed["cost_nano_usd"], billed["price_key"]) == ("0.0000007", 700, "local/m")
    assert billed["right_sizing"] == {
        "price_key": "far/m",
        "price_version": "prc_1",
        "saved_usd": "0.0000013",
        "saved_nano_usd": 1300,
    }
    assert exposed["right_sizing"] is None
    assert billed["usage"] == {"input_tokens": 3, "output_tokens": 0, "source": "counted"}
    assert [entry["amount_nano_usd"] for entry in body["ledger_entries"]] == [700, -700]
    assert [entry["amount_usd"] for entry in body["ledger_entries"]] == ["0.0000007", "-0.0000007"]


async def test_a_request_that_is_not_settled_has_no_cost_yet(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.metering.statements[gateway.tenants["demo"], "req_1"] = a_statement("req_1", settled=False)

    body = (await demo.get("/v1/requests/req_1")).json()

    assert body["cost_usd"] is None
    assert body["settlements"] == []
    assert body["reservation"]["state"] == "held"


async def test_another_tenants_request_is_not_found(gateway: GatewayFixture, other: httpx.AsyncClient) -> None:
    gateway.metering.statements[gateway.tenants["demo"], "req_1"] = a_statement("req_1")

    response = await other.get("/v1/requests/req_1")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "request_not_found")
