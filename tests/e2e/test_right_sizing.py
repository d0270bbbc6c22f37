"""What right-sizing saves, on two models with odd prices, against a computation from what the provider reported."""

import secrets
from collections.abc import AsyncIterator
from fractions import Fraction
from math import ceil
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet, created

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("simulator")]

CHEAP, DEAR = "instant?chunks=11", "tools"
PRICES = {
    CHEAP: {"input_per_million_nano_usd": 37_013_777, "output_per_million_nano_usd": 111_119_333},
    DEAR: {"input_per_million_nano_usd": 1_234_567_891, "output_per_million_nano_usd": 7_654_321_987},
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
async def admin(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as client:
        yield client


@pytest.fixture
async def model(fleet: Fleet, admin: httpx.AsyncClient) -> str:
    """A route whose first candidate is the dear model."""
    for name, price in PRICES.items():
        created(await admin.post("/admin/v1/prices", json={"price_key": f"simulator/{name}", **price}))
    route = f"sim-sizing-{secrets.token_hex(4)}"
    document = {
        "reason": "a test",
        "candidates": [{"upstream": "simulator", "model": one} for one in (DEAR, CHEAP)],
        "right_sizing": {"cheap": [f"simulator/{CHEAP}"]},
        "cache": {"exact": True, "charge": "discounted", "discount_percent": 50},
    }
    created(await admin.put(f"/admin/v1/routes/{route}", json=document))
    await fleet.wait_until_listed(route)
    return route


def owed(usage: dict[str, int], name: str, share: Fraction = Fraction(1)) -> int:
    """Price tokens in fractions, each price and the sum rounded up."""
    read, written = (ceil(price * share) for price in PRICES[name].values())
    return ceil(Fraction(usage["prompt_tokens"] * read + usage["completion_tokens"] * written, 1_000_000))


def settled(settlement: dict[str, Any], name: str) -> int:
    usage = settlement["usage"]
    return owed({"prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"]}, name)


def usd(nano_usd: int) -> str:
    """Write an amount as the API does."""
    text = f"{abs(nano_usd) // 10**9}.{abs(nano_usd) % 10**9:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano_usd < 0 else text


async def test_savings_in_requests_and_usage_are_those_of_an_independent_computation(fleet: Fleet, model: str) -> None:
    async with fleet.new_tenant(cap_usd="10") as http:

        async def ask(text: str, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
            body = {"model": model, "max_tokens": 32, "messages": [{"role": "user", "content": text}], **fields}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            statement = await fleet.statement_of(http, answer.headers["x-request-id"])
            return answer.json(), sorted(statement["settlements"], key=lambda one: int(one["attempt"]))

        easy, (easy_call,) = await ask("Hello")
        cached, (cached_answer,) = await ask("Hello")
        escalated, (refused, answered) = await ask("Hello, world", response_format={"type": "json_object"})
        hard, (hard_call,) = await ask("Hello", tools=[TOOL])

        # The answer of the cheap model, and the same again from the cache, which counts by itself what it saves.
        charge, instead = owed(easy["usage"], CHEAP), owed(easy["usage"], DEAR)
        assert (easy_call["price_key"], easy_call["cost_nano_usd"]) == (f"simulator/{CHEAP}", charge)
        assert easy_call["right_sizing"] == {
            "price_key": f"simulator/{DEAR}",
            "price_version": hard_call["price_version"],
            "saved_usd": usd(instead - charge),
            "saved_nano_usd": instead - charge,
        }
        assert cached["usage"] == easy["usage"]
        by_cache = charge - owed(easy["usage"], CHEAP, Fraction(1, 2))
        assert (cached_answer["cache"], cached_answer["saved_usd"]) == ("hit", usd(by_cache))
        assert cached_answer["right_sizing"] is None
        # A cheap answer that is no JSON was paid in vain.
        wasted, paid = settled(refused, CHEAP), owed(escalated["usage"], DEAR)
        assert (refused["cost_nano_usd"], answered["cost_nano_usd"]) == (wasted, paid)
        assert refused["right_sizing"]["saved_nano_usd"] == -wasted
        assert answered["right_sizing"] is None
        assert (hard_call["cost_nano_usd"], hard_call["right_sizing"]) == (owed(hard["usage"], DEAR), None)

        body = (await http.get("/v1/usage")).json()
        saved = instead - charge - wasted
        assert body["right_sizing_saved_usd"] == usd(saved)
        rows = {row["price_key"]: row for row in body["data"]}
        assert {key: row["right_sizing_saved_usd"] for key, row in rows.items()} == {
            f"simulator/{CHEAP}": usd(saved),
            f"simulator/{DEAR}": "0",
        }
        assert rows[f"simulator/{CHEAP}"]["saved_usd"] == usd(by_cache)
        assert body["right_sizing"] == [
            {
                "object": "right_sizing_usage",
                "day": None,
                "model": model,
                "requests": 2,
                "answered": 1,
                "cost_usd": usd(charge + wasted),
                "saved_usd": usd(saved),
            }
        ]
        (cache,) = body["cache"]
        assert (cache["model"], cache["hits"], cache["saved_usd"]) == (model, 1, usd(by_cache))
