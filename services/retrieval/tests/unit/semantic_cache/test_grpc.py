"""The service of cached prompts over gRPC, with a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from argosy.retrieval.v1 import semantic_cache_pb2 as pb
from argosy.retrieval.v1.semantic_cache_pb2_grpc import SemanticCacheServiceStub
from chassis.errors import RemoteError
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from google.protobuf.duration_pb2 import Duration
from retrieval.semantic_cache.grpc import SemanticCacheServicer, registration

from services.retrieval.tests.fake_peers import FakeEmbedder
from services.retrieval.tests.fake_prompts import FakePromptStore

PARTITION = b"p" * 32


@pytest.fixture
def store() -> FakePromptStore:
    return FakePromptStore()


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
async def stub(store: FakePromptStore, embedder: FakeEmbedder) -> AsyncIterator[Any]:
    servicer = SemanticCacheServicer(store, embedder, max_entries=3)
    async with serving(registration(servicer)) as channel:
        with as_caller(a_caller(a_principal("ten_one"))):
            yield SemanticCacheServiceStub(channel)


def find(prompt: str = "red apples", **fields: Any) -> pb.FindPromptsRequest:
    given: dict[str, Any] = {"partition": PARTITION, "prompt": prompt, "min_similarity": 0.9}
    return pb.FindPromptsRequest(**given | fields)


def put(prompt: str = "red apples", **fields: Any) -> pb.PutPromptRequest:
    lifetime = Duration()
    lifetime.FromTimedelta(timedelta(hours=1))
    given: dict[str, Any] = {
        "partition": PARTITION,
        "entry_id": prompt,
        "model": "m",
        "prompt": prompt,
        "lifetime": lifetime,
    }
    return pb.PutPromptRequest(**given | fields)


async def test_a_prompt_is_kept_and_then_found_by_its_meaning(stub: Any, embedder: FakeEmbedder) -> None:
    missed = await stub.FindPrompts(find())
    assert embedder.calls == [], "there was nothing to compare it to"
    await stub.PutPrompt(put(entry_id="answer"))

    [near] = (await stub.FindPrompts(find())).prompts

    assert not missed.prompts
    assert (near.entry_id, near.prompt) == ("answer", "red apples")
    assert near.similarity > 0.99


async def test_a_tenant_keeps_a_bounded_number_of_prompts(stub: Any, store: FakePromptStore) -> None:
    for number in range(5):
        await stub.PutPrompt(put(f"prompt {number}"))

    assert len(store.kept) == 3


async def test_prompts_are_removed_by_their_tenant_and_of_others_by_an_operator(
    stub: Any, store: FakePromptStore
) -> None:
    await stub.PutPrompt(put())
    with pytest.raises(RemoteError) as refused:
        await stub.RemovePrompts(pb.RemovePromptsRequest(tenant_id="*"))
    assert (refused.value.reason, len(store.kept)) == ("PERMISSION_DENIED", 1)
    await stub.RemovePrompts(pb.RemovePromptsRequest())
    assert not store.kept

    await stub.PutPrompt(put())
    with as_caller(a_caller(a_principal("ten_ops", roles=["platform_admin"]))):
        await stub.RemovePrompts(pb.RemovePromptsRequest(tenant_id="ten_other"))
        assert len(store.kept) == 1
        await stub.RemovePrompts(pb.RemovePromptsRequest(tenant_id="*"))
    assert not store.kept


BAD_REQUESTS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda stub: stub.FindPrompts(find(partition=b"short")), "partition"),
    (lambda stub: stub.FindPrompts(find(" ")), "prompt"),
    (lambda stub: stub.FindPrompts(find("a\0")), "prompt"),
    (lambda stub: stub.FindPrompts(find("x" * 2_001)), "prompt"),
    (lambda stub: stub.FindPrompts(find(min_similarity=0.0)), "min_similarity"),
    (lambda stub: stub.FindPrompts(find(min_similarity=float("nan"))), "min_similarity"),
    (lambda stub: stub.FindPrompts(find(limit=21)), "limit"),
    (lambda stub: stub.PutPrompt(put(partition=b"")), "partition"),
    (lambda stub: stub.PutPrompt(put(entry_id="")), "entry_id"),
    (lambda stub: stub.PutPrompt(put(model="")), "model"),
    (lambda stub: stub.PutPrompt(put(lifetime=Duration())), "lifetime"),
]


@pytest.mark.parametrize(("call", "param"), BAD_REQUESTS)
async def test_an_invalid_request_names_its_parameter(stub: Any, call: Callable[[Any], Any], param: str) -> None:
    with pytest.raises(RemoteError) as refused:
        await call(stub)

    assert (refused.value.reason, refused.value.param) == ("INVALID_REQUEST", param)


@pytest.mark.parametrize(
    "call", [lambda stub: stub.FindPrompts(find()), lambda stub: stub.PutPrompt(put())], ids=["find", "put"]
)
async def test_a_caller_that_is_no_member_is_refused(stub: Any, call: Callable[[Any], Any]) -> None:
    with as_caller(a_caller(a_principal("ten_one", roles=["platform_admin"]))), pytest.raises(RemoteError) as refused:
        await call(stub)
    assert refused.value.reason == "PERMISSION_DENIED"
