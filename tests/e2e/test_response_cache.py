"""Cached answers on the whole fleet: the same events again, the price by policy, and never another tenant's."""

import asyncio

import httpx
import pytest

from tests.fleet.cached_model import INPUT_PER_MILLION, OUTPUT_PER_MILLION, a_cached_model
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

AT_ONCE = 200


def cost_of(usage: dict[str, int], percent_off: int) -> int:
    """Nano-USD: the discount is rounded up for each price, and the sum once."""
    prices = [-(-price * (100 - percent_off) // 100) for price in (INPUT_PER_MILLION, OUTPUT_PER_MILLION)]
    return -(-(usage["prompt_tokens"] * prices[0] + usage["completion_tokens"] * prices[1]) // 1_000_000)


@pytest.mark.parametrize(("charge", "percent", "off"), [("free", 50, 100), ("discounted", 67, 67), ("full", 50, 0)])
async def test_a_hit_costs_what_the_route_says_to_the_nano_dollar(
    fleet: Fleet, charge: str, percent: int, off: int
) -> None:
    async with (
        a_cached_model(fleet, charge=charge, discount_percent=percent) as cached,
        fleet.new_tenant("1") as tenant,
    ):
        answers = [await cached.ask(tenant, "How much is it?") for _ in range(2)]
        statements = [await fleet.statement_of(tenant, answer.headers["x-request-id"]) for answer in answers]
        usage = (await tenant.get("/v1/usage")).json()

    assert [answer.headers["argosy-cache"] for answer in answers] == ["miss", "hit"]
    assert "age" not in answers[0].headers
    assert int(answers[1].headers["age"]) >= 0
    assert answers[1].json()["choices"] == answers[0].json()["choices"]
    assert cached.provider.received == 1
    tokens = answers[0].json()["usage"]
    costs = [cost_of(tokens, 0), cost_of(tokens, off)]
    settled = [[int(one["cost_nano_usd"]) for one in statement["settlements"]] for statement in statements]
    assert settled == [[costs[0]], [costs[1]]]
    assert usage["total_usd"] == f"{sum(costs) / 10**9:.9f}".rstrip("0")
    (by_model,) = usage["cache"]
    assert (by_model["model"], by_model["lookups"], by_model["hits"]) == (cached.model, 2, 1)


async def test_a_route_that_disables_the_cache_uses_none_whatever_its_requests_ask_for(fleet: Fleet) -> None:
    asked = [{"argosy": {"cache": {"mode": mode}}} for mode in ("on", "write", "read", "on")]
    async with a_cached_model(fleet, exact=False, disabled=True) as cached, fleet.new_tenant("1") as tenant:
        answers = [await cached.ask(tenant, "How much is it?", **fields) for fields in asked]
        statements = [await fleet.statement_of(tenant, answer.headers["x-request-id"]) for answer in answers]
        usage = (await tenant.get("/v1/usage")).json()

    assert cached.provider.received == len(asked)
    assert [answer.headers.get("argosy-cache") for answer in answers] == [None] * len(asked)
    assert [[one["cache"] for one in statement["settlements"]] for statement in statements] == [[None]] * len(asked)
    assert usage["cache"] == []
    (row,) = usage["data"]
    assert (row["calls"], row["cache_hits"], row["saved_usd"]) == (len(asked), 0, "0")


async def test_a_stream_is_given_again_event_for_event(fleet: Fleet) -> None:
    async with a_cached_model(fleet) as cached, fleet.new_tenant("1") as tenant:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        first, second = [await cached.ask(tenant, "Tell me a story", **asked) for _ in range(2)]
        other = await cached.ask(tenant, "Tell me a story")

    assert [one.headers["argosy-cache"] for one in (first, second, other)] == ["miss", "hit", "miss"]
    assert contents(second) == contents(first)
    assert len(contents(first)) > 2
    assert second.text.endswith("data: [DONE]\n\n")


def contents(answer: httpx.Response) -> list[object]:
    """What each event of a stream says, without what names the request."""
    events = [httpx.Response(200, content=line[6:]).json() for line in answer.text.splitlines() if line[6:7] == "{"]
    return [(event["choices"], event.get("usage")) for event in events]


async def test_equal_prompts_at_once_make_one_call_and_no_tenant_gets_anothers_answer(fleet: Fleet) -> None:
    async with (
        a_cached_model(fleet) as cached,
        fleet.new_tenant("1") as tenant,
        fleet.new_tenant("1") as other,
    ):
        answers = await asyncio.gather(*(cached.ask(tenant, "All at once") for _ in range(AT_ONCE)))
        calls = cached.provider.received
        others = await asyncio.gather(*(cached.ask(other, "All at once") for _ in range(AT_ONCE)))

    assert calls == 1
    assert sorted(one.headers["argosy-cache"] for one in answers) == ["hit"] * (AT_ONCE - 1) + ["miss"]
    assert cached.provider.received == 2
    assert sorted(one.headers["argosy-cache"] for one in others) == ["hit"] * (AT_ONCE - 1) + ["miss"]


async def test_a_tenant_forgets_its_answers_and_a_request_may_do_without(fleet: Fleet) -> None:
    async with a_cached_model(fleet) as cached, fleet.new_tenant("1") as tenant:
        await cached.ask(tenant, "Remember")
        without = await cached.ask(tenant, "Remember", argosy={"cache": {"mode": "off"}})
        hit = await cached.ask(tenant, "Remember")
        assert (await tenant.delete("/v1/cache", params={"route": cached.model})).status_code == 204
        purged = await cached.ask(tenant, "Remember")

    assert [one.headers.get("argosy-cache") for one in (without, hit, purged)] == [None, "hit", "miss"]
    assert cached.provider.received == 3
