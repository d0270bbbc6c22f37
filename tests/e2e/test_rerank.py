"""Scores of documents on the whole fleet, by a model whose score is the words in common."""

from __future__ import annotations

import httpx
import pytest

from tests.fleet.client import Fleet

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
