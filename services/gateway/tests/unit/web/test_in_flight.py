"""Bodies and uploads in flight are bounded, and what is over the bound is refused before it is read."""

from __future__ import annotations

import asyncio
import gc
import io
import weakref
from collections.abc import AsyncIterator

import orjson
import pytest
from gateway.settings import InFlightSection

from services.gateway.tests.fakes.gateway import GatewayFixture, RawRequest, run_gateway, run_loop

MAX_BYTES, MAX_BYTES_PER_KEY = 7000, 4096
CHAT = "/v1/chat/completions"
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatewayFixture]:
    monkeypatch.setattr("gateway.web.request_body.MAX_BUFFERED_BYTES", 100)
    limits = InFlightSection(body_bytes=MAX_BYTES, body_bytes_per_key=MAX_BYTES_PER_KEY, uploads=3, uploads_per_key=2)
    async with run_gateway(in_flight=limits) as gateway:
        yield gateway


def unfinished(
    gateway: GatewayFixture, tenant: str = "demo", declared: int | None = None, path: str = CHAT, chunk: bytes = b"{"
) -> RawRequest:
    """A request whose body has begun."""
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}"}
    if declared is not None:
        headers["content-length"] = str(declared)
    request = RawRequest(gateway, path, b"", headers=headers)
    request.set_body(chunk)
    return request


async def refusal(request: RawRequest) -> tuple[int, str, bytes]:
    start = await request.next_message()
    body = orjson.loads(await request.remaining_body())
    return start["status"], body["error"]["code"], dict(start["headers"]).get(b"retry-after", b"")


async def left(*requests: RawRequest) -> None:
    for request in requests:
        request.disconnect()
    await asyncio.gather(*(request.task for request in requests))


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/rerank"])
async def test_a_key_has_a_budget_for_bodies_that_are_declared(gateway: GatewayFixture, path: str) -> None:
    first = unfinished(gateway, declared=3000, path=path)
    await run_loop()
    second = unfinished(gateway, declared=2000, path=path)

    assert await refusal(second) == (429, "too_much_in_flight", b"1")
    assert second.unread, "the body was read before it was refused"
    await left(first)
    again = unfinished(gateway, declared=3000, path=path)
    await run_loop()
    assert again.sent.empty()
    await left(again)


async def test_what_arrived_of_a_body_is_freed_when_its_client_leaves(
    gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the garbage collector, which comes rarely: an error must not keep the frames that refer to it."""
    buffers: list[weakref.ref[io.BytesIO]] = []

    class Buffer(io.BytesIO):
        def __init__(self) -> None:
            super().__init__()
            buffers.append(weakref.ref(self))

    monkeypatch.setattr("chassis.http.asgi.BytesIO", Buffer)
    gc.collect()
    gc.disable()
    try:
        for path in (CHAT, "/v1/embeddings"):
            await left(unfinished(gateway, declared=3000, path=path, chunk=b"a" * 2000))
        assert [buffer() for buffer in buffers] == [None, None]
    finally:
        gc.enable()


async def test_the_process_has_a_budget_for_all_keys(gateway: GatewayFixture) -> None:
    bodies = [unfinished(gateway, declared=4000), unfinished(gateway, "other", declared=2900)]
    await run_loop()

    assert await refusal(unfinished(gateway, "third", declared=200)) == (503, "overloaded", b"1")
    await left(*bodies)


async def test_bodies_of_unknown_size_take_what_arrives(gateway: GatewayFixture) -> None:
    first = unfinished(gateway, chunk=b"a" * 3000)
    await run_loop()

    assert await refusal(unfinished(gateway, chunk=b"a" * 2000)) == (429, "too_much_in_flight", b"1")
    await left(first)


async def test_a_body_larger_than_its_limit_is_refused_unread(gateway: GatewayFixture) -> None:
    request = unfinished(gateway, declared=4097)

    assert await refusal(request) == (413, "request_too_large", b"")
    assert request.unread


async def test_json_of_other_routes_takes_the_same_budget(gateway: GatewayFixture) -> None:
    first = unfinished(gateway, declared=4000)
    await run_loop()

    assert (await refusal(unfinished(gateway, declared=1000, path="/v1/vector_stores")))[:2] == (
        429,
        "too_much_in_flight",
    )
    await left(first)


async def test_the_budget_is_given_back_when_the_response_starts(gateway: GatewayFixture) -> None:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "a" * 3000}]})
    for _ in range(5):
        request = RawRequest(gateway, CHAT, body, headers={"content-length": str(len(body))})
        assert (await request.next_message())["status"] == 200
        await request.remaining_body()


async def test_uploads_are_bounded_in_number(gateway: GatewayFixture) -> None:
    def upload(tenant: str = "demo") -> RawRequest:
        headers = {"authorization": f"Bearer {gateway.keys[tenant]}"} | MULTIPART
        request = RawRequest(gateway, "/v1/files", b"", headers=headers)
        request.set_body(b"--b\r\n")
        return request

    open_uploads = [upload(), upload()]
    await run_loop()
    assert await refusal(upload()) == (429, "too_much_in_flight", b"1")
    open_uploads.append(upload("other"))
    await run_loop()
    assert await refusal(upload("third")) == (503, "overloaded", b"1")
    await left(*open_uploads)
    again = upload()
    await run_loop()
    assert again.sent.empty()
    await left(again)


def test_the_budget_of_a_key_is_no_more_than_that_of_the_process() -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        InFlightSection(body_bytes=2048, body_bytes_per_key=4096)
