"""Every provider's habits, streamed and not: the ledger bills what the provider's own journal says, and holds nothing.

Each class of tokens has a price of its own, and the bill is exact by class. Failures are in it, too: a provider that
sends its error with status 200 has charged nothing, its call is settled with nothing, and the next candidate answers;
one that breaks off after some chunks is billed or exposed, once.
"""

import json
from typing import Any

import asyncpg
import httpx
import pytest

from tests.fleet.client import Fleet, add_route, created
from tests.simulators.providers import DOUBLES

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

INPUT, OUTPUT = 150_000_007, 600_000_011
"""Odd, so that rounding shows."""
CLASSES = {
    "cached_input": 15_000_001,
    "cache_write": 187_500_013,
    "cache_write_1h": 300_000_019,
    "reasoning_output": 700_000_023,
}
PRICES = {
    "input_per_million_nano_usd": INPUT,
    "output_per_million_nano_usd": OUTPUT,
    "classes_per_million_nano_usd": CLASSES,
}
FORMS = [(name, stream, fail) for name in DOUBLES for stream in (False, True) for fail in ("", "first")]
FAILURES = ("", "first", "middle")


def upstream_of(name: str) -> str:
    """Prompt caches are the tenant's own, so that what they did may be billed and shown."""
    return "simulator-messages-own" if name == "anthropic" else "simulator-own"


def expected_tokens(charged: dict[str, Any]) -> dict[str, int]:
    """Tokens by class, without those that have none."""
    details = {name: tokens for name, tokens in (charged["details"] or {}).items() if tokens}
    written = sum(tokens for name, tokens in details.items() if name.endswith("_output"))
    text = {
        "text_input": charged["input_tokens"] - (sum(details.values()) - written),
        "text_output": charged["output_tokens"] - written,
    }
    return details | {name: tokens for name, tokens in text.items() if tokens}


def expected_cost(tokens: dict[str, int]) -> int:
    """Nano-USD, rounded up once per call."""
    prices = {"text_input": INPUT, "text_output": OUTPUT, **CLASSES}
    return -(-sum(count * prices[name] for name, count in tokens.items()) // 1_000_000)


async def add_models(fleet: Fleet) -> dict[tuple[str, str], str]:
    """Route a public model to each double and its failure, with OpenAI's double behind the failures."""
    names: dict[tuple[str, str], str] = {}
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
            for name in DOUBLES:
                for fail in FAILURES:
                    model = f"as-{name}?fail={fail}" if fail else f"as-{name}"
                    price = {"price_key": f"{upstream_of(name)}/{model}", **PRICES}
                    created(await admin.post("/admin/v1/prices", json=price))
                    names[name, fail] = public = fleet.unique(f"double-{name}-{fail or 'well'}")
                    await add_route(connection, public, [model], upstream_of(name))
                    if fail == "first":
                        await connection.execute("SELECT set_config('argosy.tenant', '*', false)")
                        await connection.execute(
                            "INSERT INTO orchestration.route_candidates "
                            "(tenant_id, model, position, upstream, upstream_model, max_output_tokens) "
                            "VALUES ('*', $1, 1, 'simulator-own', 'as-openai', 4096)",
                            public,
                        )
    finally:
        await connection.close()
    for public in names.values():
        await fleet.wait_until_listed(public)
    return names


async def send(http: httpx.AsyncClient, model: str, *, stream: bool) -> httpx.Response:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What is six times seven? " * 8}],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def shown_usage(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """Return the usage that the client is shown."""
    if stream:
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        document = json.loads(events[-2])
    else:
        document = answer.json()
    usage: dict[str, Any] = document["usage"]
    return usage


def shown_tokens(usage: dict[str, Any]) -> dict[str, int]:
    """Tokens by class in what the client is shown; it has one number for all writes to a cache."""
    prompt = usage.get("prompt_tokens_details") or {}
    written = usage.get("completion_tokens_details") or {}
    found = {
        "cached_input": prompt.get("cached_tokens") or 0,
        "cache_writes": prompt.get("cache_write_tokens") or 0,
        "reasoning_output": written.get("reasoning_tokens") or 0,
    }
    return {name: tokens for name, tokens in found.items() if tokens}


def as_shown(tokens: dict[str, int]) -> dict[str, int]:
    writes = tokens.get("cache_write", 0) + tokens.get("cache_write_1h", 0)
    found = {name: tokens.get(name, 0) for name in ("cached_input", "reasoning_output")} | {"cache_writes": writes}
    return {name: count for name, count in found.items() if count}


async def test_the_ledger_bills_what_each_providers_journal_says_by_class_and_holds_nothing(fleet: Fleet) -> None:
    names = await add_models(fleet)
    simulator = httpx.AsyncClient(base_url=f"http://127.0.0.1:{fleet.simulator_port}", timeout=30)
    billed: dict[str, list[int]] = {}
    async with simulator, fleet.new_tenant("100") as http:
        for name, stream, fail in FORMS:
            before = len((await simulator.get("/simulator")).json()["journal"])
            answer = await send(http, names[name, fail], stream=stream)
            charged = (await simulator.get("/simulator")).json()["journal"][before:]
            shown = shown_usage(answer, stream=stream)

            form = (name, stream, fail)
            # A failure of the server is tried once more, and one that goes on is passed over.
            (journal,) = [one for one in charged if one["input_tokens"]]
            assert len(charged) <= (3 if fail else 1), form
            statement = await fleet.statement_of(http, answer.headers["x-request-id"])
            *failed, settlement = statement["settlements"]
            assert max(len(charged) - 1, bool(fail)) <= len(failed) <= (2 if fail else 0), form
            assert {one["outcome"] for one in failed} <= {"released"}, form
            assert settlement["outcome"] == "billed", form
            tokens = expected_tokens(journal)
            classes = {one["token_class"]: one for one in settlement["classes"]}
            assert {found: one["tokens"] for found, one in classes.items()} == tokens, form
            assert int(settlement["cost_nano_usd"]) == expected_cost(tokens), form
            assert sum(one["cost_nano_usd"] for one in classes.values()) == expected_cost(tokens), form
            assert int(statement["cost_nano_usd"]) == int(settlement["cost_nano_usd"]), form
            counts = (journal["input_tokens"], journal["output_tokens"])
            assert (shown["prompt_tokens"], shown["completion_tokens"]) == counts, form
            assert shown_tokens(shown) == as_shown(tokens), form
            assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0, form
            await nothing_is_held(fleet, answer.headers["x-request-id"])
            for found, one in classes.items():
                sums = billed.setdefault(found, [0, 0])
                sums[0] += one["tokens"]
                sums[1] += one["cost_nano_usd"]
        rows = (await http.get("/v1/usage")).json()["data"]
        assert by_class(rows) == billed
        for name in DOUBLES:
            await is_settled_once_when_it_breaks_off(fleet, http, names[name, "middle"])


async def is_settled_once_when_it_breaks_off(fleet: Fleet, http: httpx.AsyncClient, model: str) -> None:
    """What was written before is billed where it is counted or reported, and else exposed; nothing stays held."""
    answer = await send(http, model, stream=True)
    assert '"error"' in answer.text, model
    request_id = answer.headers["x-request-id"]
    statement = await fleet.statement_of(http, request_id)
    (settlement,) = statement["settlements"]
    assert settlement["attempt"] == 1, model
    paid, exposed = int(settlement["cost_nano_usd"]), int(settlement["exposed_nano_usd"])
    assert (settlement["outcome"], paid > 0, exposed > 0) in {("billed", True, False), ("exposed", False, True)}, model
    assert sum(one["cost_nano_usd"] for one in settlement["classes"]) == paid, model
    assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0, model
    assert len({entry["transaction_id"] for entry in statement["ledger_entries"]}) == 1, model
    await nothing_is_held(fleet, request_id)


def by_class(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Sum tokens and cost of all rows of usage; each row's classes add up to its tokens and cost."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        assert sum(one["tokens"] for one in row["classes"]) == row["input_tokens"] + row["output_tokens"]
        for one in row["classes"]:
            found = sums.setdefault(one["token_class"], [0, 0])
            found[0] += one["tokens"]
            found[1] += one["cost_nano_usd"]
    return sums


async def nothing_is_held(fleet: Fleet, request_id: str) -> None:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        held = await connection.fetchval(
            "SELECT count(*) FROM metering.reservations WHERE request_id = $1 AND state = 'held'", request_id
        )
    finally:
        await connection.close()
    assert held == 0
