"""The unmodified openai SDK works with the gateway."""

import io
import struct
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
from openai.types import StaticFileChunkingStrategyParam

from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.inference import MODEL_NOT_FOUND, SOURCE, streamed_response
from services.gateway.tests.fakes.retrieval import passage


@pytest.fixture
async def sdk(gateway: GatewayFixture) -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx.ASGITransport(gateway.app)
    async with httpx.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(
            base_url="http://gateway/v1", api_key=gateway.keys["demo"], http_client=http, max_retries=0
        )


async def test_chat_is_streamed_with_its_sources_and_cost(gateway: GatewayFixture, sdk: openai.AsyncOpenAI) -> None:
    gateway.inference.chat = streamed_response(sources=[SOURCE])

    stream = await sdk.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    assert (chunks[0].model_extra or {})["argosy"]["sources"][0]["filename"] == "guide.pdf"
    assert (chunks[-1].model_extra or {})["argosy"]["cost_usd"] == "0.0000123"


async def test_embeddings_are_unpacked(gateway: GatewayFixture, sdk: openai.AsyncOpenAI) -> None:
    gateway.inference.embedding = [struct.pack("<2f", 0.5, -1)]

    response = await sdk.embeddings.create(model="mini", input="text")

    assert list(response.data[0].embedding) == [0.5, -1]


async def test_models_are_listed_and_read(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["all-minilm-l6-v2", "meta/llama", "smollm2"]
    assert (await sdk.models.retrieve("meta/llama")).owned_by == "argosy"


async def test_files_are_stored_listed_over_pages_read_and_deleted(sdk: openai.AsyncOpenAI) -> None:
    stored = [
        await sdk.files.create(file=(f"{n}.txt", io.BytesIO(b"x" * n)), purpose="assistants") for n in range(1, 6)
    ]

    assert {file.id async for file in sdk.files.list(limit=2)} == {file.id for file in stored}
    assert (await sdk.files.content(stored[2].id)).read() == b"xxx"
    assert (await sdk.files.delete(stored[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.files.retrieve(stored[0].id)


async def test_files_have_attributes_and_searches_filters(gateway: GatewayFixture, sdk: openai.AsyncOpenAI) -> None:
    gateway.retrieval.passages = {"harbour": [passage("file-1", "a.txt", 0, "Ragusa", 0.03)]}
    store = await sdk.vector_stores.create(name="harbours")
    file = await sdk.files.create(file=("a.txt", io.BytesIO(b"Ragusa")), purpose="assistants")
    attached = await sdk.vector_stores.files.create(
        store.id, file_id=file.id, attributes={"year": 2024, "public": True}
    )
    updated = await sdk.vector_stores.files.update(
        file.id, vector_store_id=store.id, attributes={"year": 2025, "author": "Ada"}
    )
    batch = await sdk.vector_stores.file_batches.create(
        store.id, files=[{"file_id": file.id, "attributes": {"year": 2026}}]
    )
    found = await sdk.vector_stores.search(
        store.id,
        query="harbour",
        filters={
            "type": "or",
            "filters": [
                {"type": "in", "key": "author", "value": ["Ada", "Ben"]},
                {"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2024}]},
            ],
        },
        max_num_results=5,
        ranking_options={"ranker": "default-2024-11-15", "score_threshold": 0.01},
        rewrite_query=False,
    )

    assert (attached.attributes, updated.attributes) == (
        {"year": 2024, "public": True},
        {"year": 2025, "author": "Ada"},
    )
    assert batch.file_counts.total == 1
    assert (await sdk.vector_stores.files.retrieve(file.id, vector_store_id=store.id)).attributes == {"year": 2026}
    assert [result.attributes for result in found.data] == [{}]
    assert gateway.retrieval.searches[0].filter.WhichOneof("filter") == "any"


async def test_stores_expire_have_metadata_and_say_how_their_files_are_split(sdk: openai.AsyncOpenAI) -> None:
    store = await sdk.vector_stores.create(
        name="harbours", metadata={"team": "ports"}, expires_after={"anchor": "last_active_at", "days": 7}
    )
    file = await sdk.files.create(file=("a.txt", io.BytesIO(b"Ragusa")), purpose="assistants")
    static: StaticFileChunkingStrategyParam = {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}
    attached = await sdk.vector_stores.files.create(
        store.id, file_id=file.id, chunking_strategy={"type": "static", "static": static}
    )
    updated = await sdk.vector_stores.update(store.id, name="ports", expires_after=None)

    assert store.expires_after is not None
    assert (store.expires_after.days, store.metadata, store.status) == (7, {"team": "ports"}, "completed")
    assert store.expires_at == (store.last_active_at or 0) + 7 * 24 * 3600
    assert attached.chunking_strategy is not None
    assert attached.chunking_strategy.model_dump() == {"type": "static", "static": static}
    assert (updated.name, updated.expires_after, updated.metadata) == ("ports", None, {"team": "ports"})


async def test_a_file_is_put_into_a_store_and_found(gateway: GatewayFixture, sdk: openai.AsyncOpenAI) -> None:
    gateway.retrieval.passages = {"harbour": [passage("file-1", "a.txt", 0, "Ragusa", 0.03)]}
    store = await sdk.vector_stores.create(name="harbours")
    attached = await sdk.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.txt", io.BytesIO(b"Ragusa"))
    )
    assert attached.status == "completed"

    file = await sdk.files.create(file=("bad.pdf", io.BytesIO(b"?")), purpose="assistants")
    failed = await sdk.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, chunking_strategy={"type": "auto"}
    )
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert str(failed.last_error.code) == "unreadable_file"

    assert (await sdk.vector_stores.retrieve(store.id)).file_counts.total == 2
    assert len([file async for file in sdk.vector_stores.files.list(store.id, limit=1)]) == 2
    found = [result async for result in sdk.vector_stores.search(store.id, query="harbour")]
    assert found[0].content[0].text == "Ragusa"
    assert (await sdk.vector_stores.files.delete(file.id, vector_store_id=store.id)).deleted
    assert (await sdk.vector_stores.delete(store.id)).deleted


async def test_the_sdk_raises_its_own_typed_errors(gateway: GatewayFixture, sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as wrong_key:
        await sdk.with_options(api_key="sk-wrong").models.list()
    assert wrong_key.value.code == "invalid_api_key"

    with pytest.raises(openai.BadRequestError) as bad:
        await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], temperature=3)
    assert (bad.value.code, bad.value.param) == ("invalid_request", "temperature")

    gateway.inference.chat = [MODEL_NOT_FOUND]
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert unknown.value.code == "model_not_found"

    with pytest.raises(openai.PermissionDeniedError):
        await sdk.get("http://gateway/admin/v1/tenants", cast_to=object)
