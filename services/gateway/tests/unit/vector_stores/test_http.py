"""`/v1/vector_stores`."""

from typing import Any

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture

PATH = "/v1/vector_stores"


def sizes(tokens: int, overlap: int) -> dict[str, int]:
    return {"max_chunk_size_tokens": tokens, "chunk_overlap_tokens": overlap}


def static(tokens: int, overlap: int) -> dict[str, Any]:
    return {"chunking_strategy": {"type": "static", "static": sizes(tokens, overlap)}}


async def a_file(client: httpx.AsyncClient, name: str = "a.txt") -> str:
    """Store a file and return its id."""
    response = await client.post("/v1/files", files={"file": (name, b"hello")}, data={"purpose": "assistants"})
    found: str = response.json()["id"]
    return found


async def a_store(client: httpx.AsyncClient, **fields: Any) -> str:
    """Create a vector store and return its id."""
    response = await client.post(PATH, json=fields)
    assert response.status_code == 200, response.text
    found: str = response.json()["id"]
    return found


async def test_a_store_is_made_and_shown_in_openais_shape(demo: httpx.AsyncClient) -> None:
    files = [await a_file(demo), await a_file(demo)]

    shown = (await demo.post(PATH, json={"name": "harbours", "file_ids": files})).json()

    assert shown == {
        "id": shown["id"],
        "object": "vector_store",
        "created_at": 1767312000,
        "name": "harbours",
        "usage_bytes": 0,
        "file_counts": {"in_progress": 2, "completed": 0, "failed": 0, "cancelled": 0, "total": 2},
        "status": "in_progress",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": 1767312000,
        "metadata": {},
        "argosy": {"embedding_model": "minilm"},
    }


async def test_a_store_needs_no_fields(demo: httpx.AsyncClient) -> None:
    shown = (await demo.post(PATH, json={})).json()

    assert (shown["name"], shown["status"]) == ("", "completed")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": 7}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"file_ids": ["file 1"]}, "file_ids[0]"),
        ({"file_ids": ["f"] * 501}, "file_ids"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at"}}, "expires_after.days"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"chunking_strategy": {"type": "static"}}, "chunking_strategy"),
        ({"chunking_strategy": {"type": "auto", "static": sizes(100, 0)}}, "chunking_strategy"),
        ({"chunking_strategy": {"type": "semantic"}}, "chunking_strategy.type"),
        (static(99, 0), "chunking_strategy.static.max_chunk_size_tokens"),
        (static(4_097, 0), "chunking_strategy.static.max_chunk_size_tokens"),
        (static(100, -1), "chunking_strategy.static.chunk_overlap_tokens"),
        (static(100, 51), "chunking_strategy.static"),
    ],
)
async def test_unsupported_fields_are_refused(demo: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    response = await demo.post(PATH, json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_store_has_metadata_and_expires_days_after_its_last_use(demo: httpx.AsyncClient) -> None:
    expiry = {"anchor": "last_active_at", "days": 7}
    store = await a_store(demo, name="old", metadata={"team": "ports"}, expires_after=expiry)

    shown = (await demo.get(f"{PATH}/{store}")).json()

    assert (shown["metadata"], shown["expires_after"]) == ({"team": "ports"}, expiry)
    assert shown["expires_at"] == shown["last_active_at"] + 7 * 24 * 3600


async def test_only_what_is_named_changes(demo: httpx.AsyncClient) -> None:
    expiry = {"anchor": "last_active_at", "days": 7}
    store = await a_store(demo, name="old", metadata={"team": "ports"}, expires_after=expiry)

    renamed = (await demo.post(f"{PATH}/{store}", json={"name": "new"})).json()
    assert (renamed["name"], renamed["metadata"], renamed["expires_after"]) == ("new", {"team": "ports"}, expiry)
    changed = (await demo.post(f"{PATH}/{store}", json={"metadata": {"a": "b"}, "expires_after": None})).json()
    assert (changed["name"], changed["metadata"], changed["expires_after"]) == ("new", {"a": "b"}, None)
    bad = await demo.post(f"{PATH}/{store}", json={"file_ids": []})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "file_ids")


async def test_an_expired_store_says_so(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    store = await a_store(demo)
    [tenant] = gateway.retrieval.tenants.values()
    tenant.stores[store].expired = True

    assert (await demo.get(f"{PATH}/{store}")).json()["status"] == "expired"


async def test_a_store_with_an_unknown_file_is_refused(demo: httpx.AsyncClient) -> None:
    response = await demo.post(PATH, json={"file_ids": ["file-none"]})

    assert (response.status_code, response.json()["error"]["code"]) == (404, "file_not_found")


async def test_stores_are_listed_read_and_deleted(demo: httpx.AsyncClient) -> None:
    ids = sorted([await a_store(demo) for _ in range(3)], reverse=True)

    first = (await demo.get(PATH, params={"limit": 2})).json()
    assert [store["id"] for store in first["data"]] == ids[:2]
    assert first["has_more"]
    rest = (await demo.get(PATH, params={"after": first["last_id"]})).json()
    assert [store["id"] for store in rest["data"]] == ids[2:]

    assert (await demo.get(f"{PATH}/{ids[0]}")).json()["id"] == ids[0]
    deleted = await demo.delete(f"{PATH}/{ids[0]}")
    assert deleted.json() == {"id": ids[0], "object": "vector_store.deleted", "deleted": True}
    response = await demo.get(f"{PATH}/{ids[0]}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "vector_store_not_found")


@pytest.mark.parametrize(("params", "param"), [({"limit": 101}, "limit"), ({"order": "asc"}, "order")])
async def test_an_unsupported_page_is_refused(
    demo: httpx.AsyncClient, params: dict[str, str | int], param: str
) -> None:
    store = await a_store(demo)
    for path in (PATH, f"{PATH}/{store}/files"):
        response = await demo.get(path, params=params)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_file_is_attached_indexed_and_detached(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo)

    attached = await demo.post(f"{PATH}/{store}/files", json={"file_id": file})
    assert attached.json() == {
        "id": file,
        "object": "vector_store.file",
        "created_at": 1767312000,
        "vector_store_id": store,
        "status": "in_progress",
        "last_error": None,
        "warnings": [],
        "usage_bytes": 0,
        "attributes": {},
        "chunking_strategy": {"type": "static", "static": sizes(192, 38)},
    }
    again = await demo.post(f"{PATH}/{store}/files", json={"file_id": file})
    assert again.json() == attached.json()

    waiting = await demo.get(f"{PATH}/{store}/files/{file}")
    assert int(waiting.headers["openai-poll-after-ms"]) < 1000
    done = await demo.get(f"{PATH}/{store}/files/{file}")
    assert (done.json()["status"], done.json()["usage_bytes"]) == ("completed", 90)
    assert "openai-poll-after-ms" not in done.headers

    deleted = await demo.delete(f"{PATH}/{store}/files/{file}")
    assert deleted.json() == {"id": file, "object": "vector_store.file.deleted", "deleted": True}
    assert (await demo.get(f"{PATH}/{store}/files/{file}")).status_code == 404
    assert (await demo.get(f"/v1/files/{file}")).status_code == 200


async def test_a_file_that_cannot_be_indexed_has_an_error(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo, "bad.pdf")
    await demo.post(f"{PATH}/{store}/files", json={"file_id": file})
    await demo.get(f"{PATH}/{store}/files/{file}")

    shown = (await demo.get(f"{PATH}/{store}/files/{file}")).json()

    assert shown["status"] == "failed"
    assert shown["last_error"] == {"code": "unreadable_file", "message": "The file cannot be read."}
    counts = (await demo.get(f"{PATH}/{store}")).json()["file_counts"]
    assert (counts["failed"], counts["total"]) == (1, 1)


async def test_attached_files_are_listed_by_state(demo: httpx.AsyncClient) -> None:
    store = await a_store(demo)
    done, waiting = await a_file(demo), await a_file(demo)
    for file in (done, waiting):
        await demo.post(f"{PATH}/{store}/files", json={"file_id": file})
    await demo.get(f"{PATH}/{store}/files/{done}")

    async def listed(**params: str) -> list[str]:
        response = (await demo.get(f"{PATH}/{store}/files", params=params)).json()
        return [file["id"] for file in response["data"]]

    assert set(await listed()) == {done, waiting}
    assert await listed(filter="completed") == [done]
    assert await listed(filter="in_progress") == [waiting]
    assert await listed(filter="failed") == await listed(filter="cancelled") == []
    bad = await demo.get(f"{PATH}/{store}/files", params={"filter": "lost"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "filter")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "file_id"),
        ({"file_id": 7}, "file_id"),
        ({"file_id": "f", "attributes": ["a"]}, "attributes"),
        ({"file_id": "f", "attributes": {f"key{n}": n for n in range(17)}}, "attributes"),
        ({"file_id": "f", "attributes": {"": 1}}, "attributes"),
        ({"file_id": "f", "attributes": {"k" * 65: 1}}, "attributes"),
        ({"file_id": "f", "attributes": {"k\u0000": 1}}, "attributes"),
        ({"file_id": "f", "attributes": {"k": "v" * 513}}, "attributes"),
        ({"file_id": "f", "attributes": {"k": None}}, "attributes"),
        ({"file_id": "f", "attributes": {"k": ["v"]}}, "attributes"),
        ({"file_id": "f", "attributes": {"k": 10**400}}, "attributes"),
    ],
)
async def test_an_invalid_attachment_is_refused(demo: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    response = await demo.post(f"{PATH}/{await a_store(demo)}/files", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


ATTRIBUTES = {"author": "Ada", "year": 2024, "id": 2**53 + 1, "share": 0.5, "public": True}


async def test_attributes_are_set_shown_and_replaced(demo: httpx.AsyncClient) -> None:
    store, file = await a_store(demo), await a_file(demo)

    attached = await demo.post(f"{PATH}/{store}/files", json={"file_id": file, "attributes": ATTRIBUTES})
    assert attached.json()["attributes"] == ATTRIBUTES
    again = await demo.post(f"{PATH}/{store}/files", json={"file_id": file})
    assert again.json()["attributes"] == ATTRIBUTES

    updated = await demo.post(f"{PATH}/{store}/files/{file}", json={"attributes": {"year": 2025}})
    assert updated.json()["attributes"] == {"year": 2025}
    assert (await demo.get(f"{PATH}/{store}/files")).json()["data"][0]["attributes"] == {"year": 2025}
    emptied = await demo.post(f"{PATH}/{store}/files/{file}", json={"attributes": None})
    assert emptied.json()["attributes"] == {}


@pytest.mark.parametrize("body", [{}, {"attributes": 7}, {"attributes": {"a": None}}])
async def test_an_invalid_update_of_a_file_is_refused(demo: httpx.AsyncClient, body: dict[str, Any]) -> None:
    store, file = await a_store(demo), await a_file(demo)
    await demo.post(f"{PATH}/{store}/files", json={"file_id": file})

    response = await demo.post(f"{PATH}/{store}/files/{file}", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "attributes")


async def test_a_file_is_split_as_it_is_said(demo: httpx.AsyncClient) -> None:
    files = [await a_file(demo) for _ in range(3)]
    store = await a_store(demo, file_ids=[files[0]], **static(4_096, 2_048))

    async def shown(file: str) -> Any:
        return (await demo.get(f"{PATH}/{store}/files/{file}")).json()["chunking_strategy"]

    await demo.post(f"{PATH}/{store}/files", json={"file_id": files[1], **static(100, 0)})
    await demo.post(f"{PATH}/{store}/files", json={"file_id": files[2], "chunking_strategy": {"type": "auto"}})

    assert [await shown(file) for file in files] == [
        {"type": "static", "static": sizes(4_096, 2_048)},
        {"type": "static", "static": sizes(100, 0)},
        {"type": "static", "static": sizes(192, 38)},
    ]


async def test_another_tenants_store_is_not_found(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    file, mine = await a_file(demo), await a_file(other)
    store = await a_store(demo, file_ids=[file])

    for response in (
        await other.get(f"{PATH}/{store}"),
        await other.post(f"{PATH}/{store}", json={"name": "mine"}),
        await other.delete(f"{PATH}/{store}"),
        await other.post(f"{PATH}/{store}/files", json={"file_id": mine}),
        await other.get(f"{PATH}/{store}/files"),
        await other.get(f"{PATH}/{store}/files?filter=cancelled"),
        await other.get(f"{PATH}/{store}/files/{file}"),
        await other.post(f"{PATH}/{store}/files/{file}", json={"attributes": {}}),
        await other.delete(f"{PATH}/{store}/files/{file}"),
        await other.post(f"{PATH}/{store}/search", json={"query": "x"}),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "vector_store_not_found")
    assert (await other.get(PATH)).json()["data"] == []
