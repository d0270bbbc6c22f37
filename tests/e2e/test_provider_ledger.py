"""Every provider's habits, streamed and not: the ledger bills what the provider's own journal says, and holds nothing.

Failures are in it, too: a provider that sends its error with status 200 has charged nothing, its call is settled with
nothing, and the next candidate answers.
"""

import json
from typing import Any

import asyncpg
import httpx
import pytest

from tests.fleet.client import Fleet, add_route, created
from tests.simulators.providers import DOUBLES

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

PRICES = {"input_per_million_nano_usd": 150_000_007, "output_per_million_nano_usd": 600_000_011}
"""Odd, so that rounding shows."""
FORMS = [(name, stream, fail) for name in DOUBLES for stream in (False, True) for fail in ("", "first")]


def upstream_of(name: str) -> str:
    return "simulator-messages" if name == "anthropic" else "simulator"


def expected_cost(input_tokens: int, output_tokens: int) -> int:
    """Nano-USD, rounded up once per call."""
    exact = input_tokens * PRICES["input_per_million_nano_usd"] + output_tokens * PRICES["output_per_million_nano_usd"]
    return -(-exact // 1_000_000)


async def add_models(fleet: Fleet) -> dict[tuple[str, str], str]:
    """Route a public model to each double and its failure, with OpenAI's double behind the failures."""
    names: dict[tuple[str, str], str] = {}
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
            for name in DOUBLES:
                for fail in ("", "first"):
                    model = f"as-{name}?fail={fail}" if fail else f"as-{name}"
                    price = {"price_key": f"{upstream_of(name)}/{model}", **PRICES}
                    created(await admin.post("/admin/v1/prices", json=price))
                    names[name, fail] = public = fleet.unique(f"double-{name}-{fail or 'well'}")
                    await add_route(connection, public, [model], upstream_of(name))
                    if fail:
                        await connection.execute("SELECT set_config('argosy.tenant', '*', false)")
                        await connection.execute(
                            "INSERT INTO orchestration.route_candidates "
                            "(tenant_id, model, position, upstream, upstream_model, max_output_tokens) "
                            "VALUES ('*', $1, 1, 'simulator', 'as-openai', 4096)",
                            public,
                        )
    finally:
        await connection.close()
    for public in names.values():
        await fleet.wait_until_listed(public)
    return names


async def ask(http: httpx.AsyncClient, model: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """Send a chat; return its id and the usage that the client is shown."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What is six times seven? " * 8}],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not stream:
        return answer.headers["x-request-id"], answer.json()["usage"]
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return answer.headers["x-request-id"], json.loads(events[-2])["usage"]


async def test_the_ledger_bills_what_each_providers_journal_says_and_holds_nothing(fleet: Fleet) -> None:
    names = await add_models(fleet)
    simulator = httpx.AsyncClient(base_url=f"http://127.0.0.1:{fleet.simulator_port}", timeout=30)
    async with simulator, fleet.new_tenant("100") as http:
        for name, stream, fail in FORMS:
            before = len((await simulator.get("/simulator")).json()["journal"])
            request_id, shown = await ask(http, names[name, fail], stream=stream)
            charged = (await simulator.get("/simulator")).json()["journal"][before:]

            form = (name, stream, fail)
            # A failure of the server is tried once more, and one that goes on is passed over.
            ((input_tokens, output_tokens),) = [tuple(one) for one in charged if any(one)]
            assert len(charged) <= (3 if fail else 1), form
            statement = await fleet.statement_of(http, request_id)
            *failed, settlement = statement["settlements"]
            assert max(len(charged) - 1, bool(fail)) <= len(failed) <= (2 if fail else 0), form
            assert {one["outcome"] for one in failed} <= {"released"}, form
            assert settlement["outcome"] == "billed", form
            assert int(settlement["cost_nano_usd"]) == expected_cost(input_tokens, output_tokens), form
            assert int(statement["cost_nano_usd"]) == int(settlement["cost_nano_usd"]), form
            assert (shown["prompt_tokens"], shown["completion_tokens"]) == (input_tokens, output_tokens), form
            assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0, form
            await nothing_is_held(fleet, request_id)


async def nothing_is_held(fleet: Fleet, request_id: str) -> None:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        held = await connection.fetchval(
            "SELECT count(*) FROM metering.reservations WHERE request_id = $1 AND state = 'held'", request_id
        )
    finally:
        await connection.close()
    assert held == 0
