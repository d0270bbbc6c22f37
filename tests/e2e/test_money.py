"""200 requests: one settlement each, to the nano-dollar, a ledger that sums to zero, every event on the topic."""

import asyncio
from decimal import Decimal

import asyncpg
import httpx
import pytest

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

REQUESTS = 200
INPUT_PER_MILLION, OUTPUT_PER_MILLION = 150_000_007, 600_000_011  # nano-USD; odd, so that rounding shows


def expected_cost(input_tokens: int, output_tokens: int) -> int:
    """Nano-USD, rounded up once per call."""
    return -(-(input_tokens * INPUT_PER_MILLION + output_tokens * OUTPUT_PER_MILLION) // 1_000_000)


async def send(http: httpx.AsyncClient, number: int) -> tuple[str, dict[str, int], Decimal]:
    """Send one request, every third one streamed; return its id, usage and cost in USD."""
    body: dict[str, object] = {
        "model": "sim-priced",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": f"question {number} " * (number % 17 + 1)}],
    }
    if number % 3:
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-request-id"], answer.json()["usage"], Decimal(answer.headers["argosy-cost"])
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        events = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    last = httpx.Response(200, content=events[-2]).json()
    return answer.headers["x-request-id"], last["usage"], Decimal(last["argosy"]["cost_usd"])


async def test_every_request_has_one_settlement_to_the_nano_dollar_and_its_event_on_the_topic(fleet: Fleet) -> None:
    await fleet.add_model(
        "sim-priced",
        upstream_model="instant",
        input_per_million=INPUT_PER_MILLION,
        output_per_million=OUTPUT_PER_MILLION,
    )
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60, limits=limits) as http:
        answers = await asyncio.gather(*(send(http, number) for number in range(REQUESTS)))
        statements = await asyncio.gather(*(fleet.statement_of(http, request_id) for request_id, _, _ in answers))

    assert len({request_id for request_id, _, _ in answers}) == REQUESTS
    for (_, usage, cost), statement in zip(answers, statements, strict=True):
        (settlement,) = statement["settlements"]
        nano = expected_cost(usage["prompt_tokens"], usage["completion_tokens"])
        assert settlement["outcome"] == "billed"
        assert int(settlement["cost_nano_usd"]) == nano
        assert cost == Decimal(nano) / 10**9
        assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0

    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        unbalanced = await connection.fetchval(
            "SELECT count(*) FROM (SELECT FROM metering.ledger_entries "
            "GROUP BY tenant_id, transaction_id HAVING sum(amount) <> 0) t"
        )
        assert unbalanced == 0
        total = await connection.fetchval("SELECT sum(amount) FROM metering.ledger_entries")
        assert total == 0
    finally:
        await connection.close()

    records = await fleet.read_topic("argosy.metering.usage-recorded.v1")
    for request_id, _, _ in answers:
        assert records.count(request_id.encode()) == 1, request_id
