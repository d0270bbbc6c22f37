"""`/v1/vector_stores/{id}/file_batches`."""

from typing import Any

import httpx
import pytest

from services.gateway.tests.unit.vector_stores.test_http import a_file, a_store, sizes, static

PATH = "/v1/vector_stores"


async def a_batch(client: httpx.AsyncClient, store: str, *files: str) -> str:
    response = await client.post(f"{PATH}/{store}/file_batches", json={"file_ids": files})
    assert response.status_code == 200, response.text
    found: str = response.json()["id"]
    return found


async def test_a_batch_is_made_polled_and_listed_in_openais_shape(demo: httpx.AsyncClient) -> None:
    store, files = await a_store(demo), [await a_file(demo), await a_file(demo, "bad.txt")]
    path = f"{PATH}/{store}/file_batches/{await a_batch(demo, store, *files)}"

    first = await demo.get(path)

    assert first.json() == {
        "id": first.json()["id"],
        "object": "vector_store.files_batch",
        "created_at": 1767312000,
        "vector_store_id": store,
        "status": "in_progress",
        "file_counts": {"in_progress": 2, "completed": 0, "failed": 0, "cancelled": 0, "total": 2},
    }
    assert first.headers["openai-poll-after-ms"] == "250"
    done = await demo.get(path)
    assert (done.json()["status"], done.json()["file_counts"]["failed"]) == ("completed", 1)
    assert "openai-poll-after-ms" not in done.headers
    failed = (await demo.get(f"{path}/files", params={"filter": "failed"})).json()["data"]
    assert [(file["id"], file["last_error"]["code"]) for file in failed] == [(files[1], "unreadable_file")]
    assert len((await demo.get(f"{path}/files")).json()["data"]) == 2
    assert (await demo.get(f"{path}/files", params={"filter": "cancelled"})).json()["data"] == []


async def test_a_cancelled_batch_says_how_many_files_were_taken_out(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo)
    path = f"{PATH}/{store}/file_batches/{await a_batch(demo, store, file)}"

    cancelled = (await demo.post(f"{path}/cancel")).json()

    assert (cancelled["status"], cancelled["file_counts"]["cancelled"]) == ("cancelled", 1)
    assert (await demo.get(f"{PATH}/{store}")).json()["file_counts"]["total"] == 0


async def test_attributes_are_given_for_all_files_or_for_each(demo: httpx.AsyncClient) -> None:
    store, files = await a_store(demo), [await a_file(demo) for _ in range(3)]

    async def shown() -> dict[str, Any]:
        return {file["id"]: file["attributes"] for file in (await demo.get(f"{PATH}/{store}/files")).json()["data"]}

    body: dict[str, Any] = {"file_ids": files, "attributes": {"year": 2024}}
    await demo.post(f"{PATH}/{store}/file_batches", json=body)
    assert await shown() == {file: {"year": 2024} for file in files}

    body = {"files": [{"file_id": files[0], "attributes": {"year": 2025}}, {"file_id": files[1]}]}
    await demo.post(f"{PATH}/{store}/file_batches", json=body)
    assert await shown() == {files[0]: {"year": 2025}, files[1]: {"year": 2024}, files[2]: {"year": 2024}}


async def test_files_of_a_batch_are_split_as_it_is_said_for_all_or_for_each(demo: httpx.AsyncClient) -> None:
    store, files = await a_store(demo), [await a_file(demo) for _ in range(3)]
    await demo.post(f"{PATH}/{store}/file_batches", json={"file_ids": files[:1], **static(800, 400)})
    each = [{"file_id": files[1], **static(100, 50)}, {"file_id": files[2]}]
    await demo.post(f"{PATH}/{store}/file_batches", json={"files": each})

    shown = {file["id"]: file["chunking_strategy"] for file in (await demo.get(f"{PATH}/{store}/files")).json()["data"]}

    assert [shown[file]["static"] for file in files] == [sizes(800, 400), sizes(100, 50), sizes(192, 38)]


async def test_files_may_be_given_one_by_one(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo)
    files = [{"file_id": file, "chunking_strategy": {"type": "auto"}, "attributes": {}}, {"file_id": file}]

    made = (await demo.post(f"{PATH}/{store}/file_batches", json={"files": files})).json()

    assert made["file_counts"]["total"] == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"file_ids": ["file-1"], "files": [{"file_id": "file-1"}]}, None),
        ({"file_ids": []}, "file_ids"),
        ({"file_ids": ["f"] * 501}, "file_ids"),
        ({"file_ids": ["file 1"]}, "file_ids[0]"),
        ({"files": [{"file_id": "file-1", "attributes": {"a": []}}]}, "files[0].attributes"),
        ({"file_ids": ["file-1"], "attributes": {"a": None}}, "attributes"),
        ({"files": [{"file_id": "file-1"}], "attributes": {"a": 1}}, None),
        ({"file_ids": ["file-1"], "chunking_strategy": {"type": "static"}}, "chunking_strategy"),
        ({"files": [{"file_id": "file-1"}], **static(100, 0)}, None),
        ({"files": [{"file_id": "file-1", **static(100, 51)}]}, "files[0].chunking_strategy.static"),
    ],
)
async def test_a_batch_that_cannot_be_honoured_is_refused(
    demo: httpx.AsyncClient, body: dict[str, Any], param: str | None
) -> None:
    response = await demo.post(f"{PATH}/{await a_store(demo)}/file_batches", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_an_unknown_store_file_or_batch_is_not_found(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo)
    batch = await a_batch(demo, store, file)

    for response, code in (
        (await demo.post(f"{PATH}/vs_none/file_batches", json={"file_ids": [file]}), "vector_store_not_found"),
        (await demo.post(f"{PATH}/{store}/file_batches", json={"file_ids": ["file-none"]}), "file_not_found"),
        (await demo.get(f"{PATH}/{await a_store(demo)}/file_batches/{batch}"), "file_batch_not_found"),
        (await demo.get(f"{PATH}/{store}/file_batches/none/files?filter=cancelled"), "file_batch_not_found"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, code)
