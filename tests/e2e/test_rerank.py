"""Scores of documents on the whole fleet, by a model whose score is the words in common."""

from __future__ import annotations

import io

import httpx
import openai
import pytest

from tests.fleet.client import Fleet
from tests.fleet.environment import RERANKER

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120), pytest.mark.xdist_group("simulator")]

DOCUMENTS = ["invoice is due", "a ship sails over the sea", "the invoice", "ship " * 2000 + "sea"]


async def test_documents_are_ordered_and_billed_once_and_what_is_refused_is_not(fleet: Fleet) -> None:
    model = fleet.unique("overlap")
    await fleet.add_reranker(model)
    body = {"model": model, "query": "a ship on the sea", "documents": DOCUMENTS[:3], "top_n": 2}
    async with fleet.new_tenant("1") as tenant:
        answer = await tenant.post("/v1/rerank", json=body)
        assert answer.status_code == 200, answer.text
        ranked = answer.json()
        statement = await fleet.statement_of(tenant, answer.headers["x-request-id"])
        windows = (await tenant.post("/v1/rerank", json={**body, "documents": DOCUMENTS})).json()
        refused = await tenant.post("/v1/rerank", json={**body, "query": "sea " * 100})
        chat = await tenant.post("/v1/rerank", json={**body, "model": "smollm2"})
        listed = (await tenant.get(f"/v1/models/{model}")).json()

    assert [one["index"] for one in ranked["results"]] == [1, 2]
    assert ranked["results"][0]["document"] == {"text": DOCUMENTS[1]}
    # Three words, six and two, each with five of the query and three marks.
    assert ranked["usage"]["total_tokens"] == 35
    assert answer.headers["argosy-cost"] == ranked["argosy"]["cost_usd"] == "0.000035"
    (settlement,) = statement["settlements"]
    assert int(settlement["cost_nano_usd"]) == 35_000
    assert windows["usage"]["total_tokens"] > 2_000
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert (chat.status_code, chat.json()["error"]["code"]) == (404, "model_not_found")
    assert listed["task"] == "rerank"


async def test_without_a_key_nothing_is_scored(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, timeout=30) as anonymous:
        answer = await anonymous.post("/v1/rerank", json={"model": "m", "query": "q", "documents": ["a"]})

    assert answer.status_code == 401


async def test_a_search_is_ordered_by_the_reranker_when_it_is_asked_for(fleet: Fleet, client: openai.OpenAI) -> None:
    await fleet.add_reranker(RERANKER)
    store = client.vector_stores.create(name="ships")
    texts = {"bills.md": "The invoice is due on friday.", "ships.md": "a ship sails over the sea", "none.md": "Quartz."}
    files = [(name, io.BytesIO(text.encode())) for name, text in texts.items()]
    client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=200)
    body = {"query": "a ship on the sea", "ranking_options": {"ranker": "rerank"}}

    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as tenant:
        answer = await tenant.post(f"/v1/vector_stores/{store.id}/search", json=body)

    assert answer.status_code == 200, answer.text
    assert answer.json()["argosy"] == {"reranked": True, "warnings": []}
    found = answer.json()["data"]
    assert found[0]["filename"] == "ships.md"
    # Four words in common, less three, by the logistic function.
    assert found[0]["score"] == pytest.approx(0.731, abs=0.001)
