"""Each service of another version works beside today's others: `make test-compatibility` names its checkout."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import ledger_checks
from tests.compatibility.older_service import replaced
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
MODEL = "sim-compatible"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
SECONDS = 120
"""Of an asynchronous step on a busy machine."""


@pytest.fixture
def checkout() -> Path:
    named = os.environ.get("ARGOSY_COMPATIBLE_CHECKOUT")
    if not named:
        pytest.skip("no other version: make test-compatibility")
    return Path(named)


@pytest.mark.parametrize("service", SERVICES)
async def test_an_older_service_works_beside_the_others_of_today(service: str, fleet: Fleet, checkout: Path) -> None:
    await fleet.add_model(MODEL, upstream_model="instant")
    async with replaced(fleet, service, checkout) as older, fleet.new_tenant(cap_usd="1") as http:
        await chat(http)
        await streamed_chat(http)
        await embedding(http)
        await file_and_search(http)
        await job(http)
        assert older.starts == 1, f"the older {service} ended and was started again"
        await settled(fleet)


async def chat(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/chat/completions", json=QUESTION)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"]
    assert float(response.headers["argosy-cost"]) > 0


async def streamed_chat(http: httpx.AsyncClient) -> None:
    async with http.stream("POST", "/v1/chat/completions", json={**QUESTION, "stream": True}) as response:
        lines = [line async for line in response.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]", lines[-1]
    assert len(lines) > 2


async def embedding(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "a ship at sea"})
    assert response.status_code == 200, response.text
    assert len(response.json()["data"][0]["embedding"]) == 384


async def file_and_search(http: httpx.AsyncClient) -> None:
    upload = {"file": ("harbours.txt", b"The oldest harbour is that of Ragusa. " * 20)}
    file = ok(await http.post("/v1/files", files=upload, data={"purpose": "assistants"}))
    store = f"/v1/vector_stores/{ok(await http.post('/v1/vector_stores', json={'name': 'harbours'}))['id']}"
    ok(await http.post(f"{store}/files", json={"file_id": file["id"]}))
    await until(http, f"{store}/files/{file['id']}", "status", "completed")
    found = ok(await http.post(f"{store}/search", json={"query": "Which harbour?"}))
    assert "Ragusa" in found["data"][0]["content"][0]["text"]


async def job(http: httpx.AsyncClient) -> None:
    submitted = ok(await http.post("/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": QUESTION}))
    await until(http, f"/v1/jobs/{submitted['id']}", "state", "succeeded")


async def settled(fleet: Fleet) -> None:
    async def exact() -> bool:
        return not await ledger_checks.violations(fleet)

    await ledger_checks.wait_for("the ledger is exact", SECONDS, exact)


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code < 300, response.text
    body: dict[str, Any] = response.json()
    return body


async def until(http: httpx.AsyncClient, path: str, field: str, value: str) -> None:
    async with asyncio.timeout(SECONDS):
        while (found := ok(await http.get(path)))[field] != value:
            assert found[field] not in {"failed", "cancelled"}, found
            await asyncio.sleep(0.2)
