"""Rerankers of providers: the ledger bills what each one's own journal says, in its own unit, and holds nothing."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import asyncpg
import httpx
import openai
import pytest

from tests.fleet.client import Fleet, created
from tests.fleet.environment import RERANKER

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

TOKEN_PRICE = 50_000_007
"""Nano-USD for a million tokens; odd, so that rounding shows."""
SEARCH_PRICE = 2_000_000_000_000
"""Two dollars for a thousand searches."""
PROVIDERS = {
    "cohere": ("simulator-cohere", "as-cohere"),
    "jina": ("simulator-jina", "as-jina"),
    "voyage": ("simulator-voyage", "as-voyage"),
    "tei": ("simulator-tei", "reranker"),
    "vllm": ("simulator", "as-vllm"),
}
QUERY = "a ship at sea"
DOCUMENTS = ["no", "a ship sails the sea", "ship"]
MANY = [f"ship {number}" for number in range(150)]


async def add_route(fleet: Fleet, public: str, *candidates: tuple[str, str], unit: str = "tokens") -> None:
    """Route a public model to models of upstreams, each with a price."""
    price = SEARCH_PRICE if unit == "search_units" else TOKEN_PRICE
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        for upstream, model in candidates:
            amounts = {"input_per_million_nano_usd": price, "output_per_million_nano_usd": 0}
            created(await admin.post("/admin/v1/prices", json={"price_key": f"{upstream}/{model}", **amounts}))
        listed = [{"upstream": upstream, "model": model, "billing_unit": unit} for upstream, model in candidates]
        route = {"reason": "a test", "task": "rerank", "candidates": listed}
        created(await admin.put(f"/admin/v1/routes/{public}", json=route))
    await fleet.wait_until_listed(public)


async def journal_of(fleet: Fleet) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(timeout=30) as client:
        found = await client.get(f"http://127.0.0.1:{fleet.simulator_port}/simulator")
    journal: list[dict[str, Any]] = found.json()["journal"]
    return journal


async def held(fleet: Fleet, request_id: str) -> int:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM metering.reservations WHERE request_id = $1 AND state = 'held'", request_id
        )
    finally:
        await connection.close()
    return count


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_ledger_bills_what_the_provider_charges(fleet: Fleet, provider: str) -> None:
    unit, public = "search_units" if provider == "cohere" else "tokens", fleet.unique(f"rerank-{provider}")
    await add_route(fleet, public, PROVIDERS[provider], unit=unit)
    async with fleet.new_tenant("10") as tenant:
        for documents in (DOCUMENTS, MANY):
            before = len(await journal_of(fleet))
            answer = await tenant.post(
                "/v1/rerank", json={"model": public, "query": QUERY, "documents": documents, "top_n": 2}
            )
            assert answer.status_code == 200, answer.text
            charged = (await journal_of(fleet))[before:]
            statement = await fleet.statement_of(tenant, answer.headers["x-request-id"])

            ranked = answer.json()
            if documents is DOCUMENTS:
                assert [one["index"] for one in ranked["results"]] == [1, 2]
                assert [one["relevance_score"] for one in ranked["results"]] == [0.75, 0.25]
            tokens = sum(one["input_tokens"] for one in charged)
            searches = sum(one["search_units"] for one in charged)
            cost = searches * SEARCH_PRICE // 1_000_000 if searches else -(-tokens * TOKEN_PRICE // 1_000_000)
            assert cost > 0
            (settlement,) = statement["settlements"]
            assert (settlement["outcome"], int(settlement["cost_nano_usd"])) == ("billed", cost)
            assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0
            expected = {"prompt_tokens": tokens, "total_tokens": tokens}
            assert ranked["usage"] == (expected | {"search_units": searches} if searches else expected)
            assert await held(fleet, answer.headers["x-request-id"]) == 0


async def test_a_provider_that_fails_costs_nothing_and_the_next_one_answers(fleet: Fleet) -> None:
    public = fleet.unique("rerank-fallback")
    await add_route(fleet, public, ("simulator-jina", "as-jina?status=500"), PROVIDERS["voyage"])
    async with fleet.new_tenant("1") as tenant:
        answer = await tenant.post("/v1/rerank", json={"model": public, "query": QUERY, "documents": DOCUMENTS})
        assert answer.status_code == 200, answer.text
        statement = await fleet.statement_of(tenant, answer.headers["x-request-id"])

    *failed, billed = statement["settlements"]
    assert {one["outcome"] for one in failed} == {"released"}
    assert (billed["outcome"], billed["price_key"]) == ("billed", "simulator-voyage/as-voyage")


@pytest.mark.parametrize(
    ("mode", "status", "code", "outcome"),
    [
        ("?status=429", 429, "upstream_rate_limited", "released"),
        ("?status=422", 400, "upstream_rejected", "released"),
        ("?odd=from-one", 502, "upstream_invalid_response", "billed"),
    ],
)
async def test_failures_have_the_codes_of_all_inference_and_are_settled_once(
    fleet: Fleet, mode: str, status: int, code: str, outcome: str
) -> None:
    public = fleet.unique("rerank-failing")
    await add_route(fleet, public, ("simulator-jina", f"as-jina{mode}"))
    async with fleet.new_tenant("1") as tenant:
        answer = await tenant.post("/v1/rerank", json={"model": public, "query": QUERY, "documents": DOCUMENTS})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        statement = await fleet.statement_of(tenant, answer.headers["x-request-id"])

    (settlement,) = statement["settlements"]
    assert settlement["outcome"] == outcome
    assert sum(int(entry["amount_nano_usd"]) for entry in statement["ledger_entries"]) == 0


async def test_documents_without_a_score_are_last_and_said_and_unknown_usage_is_exposed(fleet: Fleet) -> None:
    missing, unknown = fleet.unique("rerank-missing"), fleet.unique("rerank-unknown")
    await add_route(fleet, missing, ("simulator-jina", "as-jina?odd=missing"))
    await add_route(fleet, unknown, ("simulator-jina", "as-jina?odd=no-usage"))
    body = {"query": QUERY, "documents": DOCUMENTS}
    async with fleet.new_tenant("1") as tenant:
        ranked = (await tenant.post("/v1/rerank", json={"model": missing, **body})).json()
        answer = await tenant.post("/v1/rerank", json={"model": unknown, **body})
        statement = await fleet.statement_of(tenant, answer.headers["x-request-id"])

    assert [one["index"] for one in ranked["results"]] == [1, 2, 0]
    assert ranked["argosy"]["warnings"] == ["The model left 1 of 3 documents without a score: they have 0."]
    assert answer.status_code == 200
    (settlement,) = statement["settlements"]
    assert (settlement["outcome"], int(settlement["cost_nano_usd"])) == ("exposed", 0)


async def test_an_upstream_of_the_api_with_its_own_credential_scores_documents(fleet: Fleet) -> None:
    name, public = fleet.unique("voyage"), fleet.unique("rerank-declared")
    address = f"http://127.0.0.1:{fleet.simulator_port}/v1"
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        document = {"reason": "a test", "kind": "voyage", "base_url": address}
        created(await admin.put(f"/admin/v1/upstreams/{name}", json=document))
        secret = {"reason": "a test", "secret": "sk-of-a-provider"}
        created(await admin.post(f"/admin/v1/upstreams/{name}/credentials", json=secret))
    await add_route(fleet, public, (name, "as-voyage"))
    async with fleet.new_tenant("1") as tenant, asyncio.timeout(20):
        body = {"model": public, "query": QUERY, "documents": DOCUMENTS}
        while (answer := await tenant.post("/v1/rerank", json=body)).status_code != 200:
            await asyncio.sleep(0.2)

    assert answer.json()["results"][0]["index"] == 1


async def test_a_search_has_its_own_order_when_the_provider_fails_and_its_when_it_answers(
    fleet: Fleet, client: openai.OpenAI
) -> None:
    store = client.vector_stores.create(name="ships")
    texts = {"bills.md": "The invoice is due on friday.", "ships.md": "a ship sails over the sea"}
    files = [(name, io.BytesIO(text.encode())) for name, text in texts.items()]
    client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=200)
    body = {"query": "a ship on the sea", "ranking_options": {"ranker": "rerank"}}
    orders: list[list[str]] = []
    notes: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as tenant:
        for model in ("as-jina", "as-jina?status=500", "as-jina?odd=from-one"):
            await add_route(fleet, RERANKER, ("simulator-jina", model))
            await asyncio.sleep(1.5)  # until every replica has the changed route
            answer = await tenant.post(f"/v1/vector_stores/{store.id}/search", json=body)
            assert answer.status_code == 200, answer.text
            orders.append([one["filename"] for one in answer.json()["data"]])
            notes.append(answer.json()["argosy"])

    assert [one["reranked"] for one in notes] == [True, False, False], json.dumps(notes)
    assert [len(one["warnings"]) for one in notes] == [0, 1, 1]
    assert {order[0] for order in orders} == {"ships.md"}


async def test_a_search_says_that_its_budget_is_too_small_for_the_reranker(fleet: Fleet) -> None:
    dear = {"input_per_million_nano_usd": 1_000_000_000_000, "output_per_million_nano_usd": 0}
    model = "as-jina?dear=1"
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        created(await admin.post("/admin/v1/prices", json={"price_key": f"simulator-jina/{model}", **dear}))
        candidates = [{"upstream": "simulator-jina", "model": model}]
        route = {"reason": "a test", "task": "rerank", "candidates": candidates}
        created(await admin.put(f"/admin/v1/routes/{RERANKER}", json=route))
    await asyncio.sleep(1.5)  # until every replica has the changed route
    before = len(await journal_of(fleet))
    async with fleet.new_tenant("0.01") as tenant:
        file = {"file": ("ships.md", b"a ship sails over the sea")}
        uploaded = created(await tenant.post("/v1/files", files=file, data={"purpose": "assistants"}))
        store = created(await tenant.post("/v1/vector_stores", json={"name": "ships", "file_ids": [uploaded["id"]]}))
        path = f"/v1/vector_stores/{store['id']}"
        async with asyncio.timeout(30):
            while created(await tenant.get(path))["file_counts"]["completed"] != 1:
                await asyncio.sleep(0.2)
        body = {"query": QUERY, "ranking_options": {"ranker": "rerank"}}
        answer = await tenant.post(f"{path}/search", json=body)

    assert answer.status_code == 200, answer.text
    assert [one["filename"] for one in answer.json()["data"]] == ["ships.md"]
    (warning,) = answer.json()["argosy"]["warnings"]
    assert warning.startswith("The budget is exhausted")
    assert len(await journal_of(fleet)) == before
