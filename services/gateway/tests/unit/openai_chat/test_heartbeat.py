"""Comments in a stream whose model thinks for longer than a proxy waits."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import Kind, RemoteError
from gateway.inference.model import Chunk

from services.gateway.tests.fakes.gateway import LIMITS, GatewayFixture, RawRequest, run_gateway
from services.gateway.tests.fakes.inference import CHUNKS, FINISHED, STARTED, streamed_response

PATH = "/v1/chat/completions"
REQUEST: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
COMMENT = b": keep-alive\n\n"


@pytest.fixture
async def beating() -> AsyncIterator[GatewayFixture]:
    # The bound of the setting is for operators: here the wait only has to end.
    limits = LIMITS.model_copy(update={"heartbeat": timedelta(milliseconds=20)})
    async with run_gateway(limits=limits) as gateway:
        yield gateway


def send_request(gateway: GatewayFixture) -> RawRequest:
    return RawRequest(gateway, PATH, json.dumps(REQUEST).encode())


async def test_the_status_and_comments_come_while_the_model_thinks_and_the_answer_is_unchanged(
    beating: GatewayFixture,
) -> None:
    thought, written = asyncio.Event(), asyncio.Event()
    beating.inference.chat = [STARTED, thought, Chunk([CHUNKS[0]]), written, Chunk([CHUNKS[1]]), FINISHED]
    request = send_request(beating)

    assert (await request.next_message())["status"] == 200
    assert [(await request.next_message())["body"] for _ in range(2)] == [COMMENT] * 2
    thought.set()
    bodies = [(await request.next_message())["body"]]
    while bodies[-1] == COMMENT:
        bodies.append((await request.next_message())["body"])
    assert CHUNKS[0] in bodies[-1]
    assert (await request.next_message())["body"] == COMMENT
    written.set()
    rest = await request.remaining_body()

    assert rest.replace(COMMENT, b"").startswith(b"data: " + CHUNKS[1])
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_an_error_after_the_status_is_an_event(beating: GatewayFixture) -> None:
    failed = asyncio.Event()
    beating.inference.chat = [STARTED, failed, RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "It failed.")]
    request = send_request(beating)

    assert (await request.next_message())["status"] == 200
    failed.set()
    body = (await request.remaining_body()).replace(COMMENT, b"")

    assert json.loads(body.removeprefix(b"data: "))["error"]["code"] == "upstream_failed"
    assert b"[DONE]" not in body


async def test_an_error_before_the_first_comment_is_a_status(beating: GatewayFixture) -> None:
    beating.inference.chat = [RemoteError(Kind.UPSTREAM, "UPSTREAM_FAILED", "It failed.")]

    assert (await send_request(beating).next_message())["status"] == 502


async def test_a_client_that_leaves_while_the_model_thinks_ends_the_work(beating: GatewayFixture) -> None:
    beating.inference.chat = [STARTED, asyncio.Event()]
    request = send_request(beating)
    await request.next_message()

    request.disconnect()
    await request.task

    assert beating.inference.streams[0].cancelled


async def test_without_the_setting_there_are_no_comments(gateway: GatewayFixture) -> None:
    gateway.inference.chat = streamed_response()
    request = send_request(gateway)
    await request.next_message()

    assert COMMENT not in await request.remaining_body()
