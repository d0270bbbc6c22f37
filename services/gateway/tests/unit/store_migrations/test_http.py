"""`/v1/vector_stores/{id}/migrations`, and the embedding model of a vector store."""

from typing import Any

import httpx
import pytest

from services.gateway.tests.unit.vector_stores.test_http import a_store

PATH = "/v1/vector_stores"


async def started(client: httpx.AsyncClient, store: str, model: str = "bge-large") -> dict[str, Any]:
    response = await client.post(f"{PATH}/{store}/migrations", json={"embedding_model": model})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_store_is_made_with_a_model_of_ones_choice_or_the_default_one(demo: httpx.AsyncClient) -> None:
    default = (await demo.post(PATH, json={})).json()
    chosen = (await demo.post(PATH, json={"argosy": {"embedding_model": "bge-large"}})).json()

    assert default["argosy"] == {"embedding_model": "minilm"}
    assert chosen["argosy"] == {"embedding_model": "bge-large"}
    assert (await demo.get(f"{PATH}/{chosen['id']}")).json()["argosy"] == chosen["argosy"]


async def test_a_migration_is_started_polled_and_listed(demo: httpx.AsyncClient) -> None:
    store = await a_store(demo)
    first = await started(demo, store)
    path = f"{PATH}/{store}/migrations/{first['id']}"

    assert first == {
        "id": first["id"],
        "object": "vector_store.migration",
        "created_at": 1767312000,
        "finished_at": None,
        "vector_store_id": store,
        "embedding_model": "bge-large",
        "status": "in_progress",
        "progress_percent": 25.0,
        "chunks": {"total": 8, "migrated": 2, "embedded": 1, "reused": 1},
        "unused_vectors_deleted": False,
        "last_error": None,
    }
    assert (await demo.get(path)).headers["openai-poll-after-ms"] == "2000"
    done = await demo.get(path)
    assert (done.json()["status"], done.json()["progress_percent"]) == ("completed", 100.0)
    assert done.json()["finished_at"] == 1767312000
    assert "openai-poll-after-ms" not in done.headers
    assert [one["id"] for one in (await demo.get(f"{PATH}/{store}/migrations")).json()["data"]] == [first["id"]]


async def test_a_migration_is_cancelled_and_a_completed_one_is_not(demo: httpx.AsyncClient) -> None:
    store = await a_store(demo)
    path = f"{PATH}/{store}/migrations/{(await started(demo, store))['id']}"

    assert (await demo.post(f"{path}/cancel")).json()["status"] == "cancelled"
    assert (await demo.post(f"{path}/cancel")).json()["status"] == "cancelled"
    completed = f"{PATH}/{store}/migrations/{(await started(demo, store))['id']}"
    await demo.get(completed)
    assert (await demo.post(f"{completed}/cancel")).json()["status"] == "completed"


async def test_another_tenant_finds_no_migration(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    store = await a_store(demo)
    path = f"{PATH}/{store}/migrations/{(await started(demo, store))['id']}"

    for response in (
        await other.get(path),
        await other.post(f"{path}/cancel"),
        await other.post(f"{PATH}/{store}/migrations", json={"embedding_model": "bge-large"}),
        await other.get(f"{PATH}/{store}/migrations"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "vector_store_not_found")
    missing = await demo.get(f"{PATH}/{store}/migrations/vsm_none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "store_migration_not_found")


@pytest.mark.parametrize(
    "body", [{}, {"embedding_model": ""}, {"embedding_model": 1}, {"embedding_model": "a", "x": 1}]
)
async def test_a_start_without_a_model_is_refused(demo: httpx.AsyncClient, body: dict[str, Any]) -> None:
    response = await demo.post(f"{PATH}/{await a_store(demo)}/migrations", json=body)

    assert response.status_code == 400


async def test_the_model_that_the_store_has_is_refused(demo: httpx.AsyncClient) -> None:
    response = await demo.post(f"{PATH}/{await a_store(demo)}/migrations", json={"embedding_model": "minilm"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "embedding_model")
