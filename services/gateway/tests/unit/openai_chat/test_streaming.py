"""`POST /v1/chat/completions`, streamed."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from chassis.errors import Kind, RemoteError
from gateway.inference.model import Chunk, Finished, Started
from values.money import NanoUsd
from values.usage import TokenUsage, UsageSource

from services.gateway.tests.fakes.gateway import GatewayFixture, RawRequest, run_loop
from services.gateway.tests.fakes.inference import (
    CHUNKS,
    COST,
    FINISHED,
    SOURCE,
    STARTED,
    USAGE_PAYLOAD,
    reported,
    streamed_response,
)

PATH = "/v1/chat/completions"
REQUEST: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
USAGE_WANTED = {"stream_options": {"include_usage": True}}


def parse_events(body: bytes) -> list[Any]:
    """The events as a client decodes them; [DONE] stays a text."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    texts = ["\n".join(line.removeprefix("data: ") for line in block.split("\n")) for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def send_request(gateway: GatewayFixture, **fields: Any) -> RawRequest:
    return RawRequest(gateway, PATH, json.dumps(REQUEST | fields).encode())


async def test_chunks_are_unchanged_and_the_last_one_has_the_cost(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.chat = streamed_response()

    response = await demo.post(PATH, json=REQUEST)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert CHUNKS[0] in response.content
    assert CHUNKS[1] in response.content
    *chunks, end_chunk, end = parse_events(response.content)
    assert len(chunks) == 2
    assert end == "[DONE]"
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    request_id = response.headers["x-request-id"]
    assert end_chunk["argosy"] == {"request_id": request_id, "cost_usd": "0.0000123", "usage": usage}
    # Who did not ask for usage may add up every one, and reads choices[0] without a look.
    assert "usage" not in end_chunk
    assert end_chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]


async def test_a_client_that_asks_for_usage_gets_openais_usage_chunk(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.chat = streamed_response()

    response = await demo.post(PATH, json=REQUEST | USAGE_WANTED)

    end_chunk = parse_events(response.content)[-2]
    assert end_chunk["choices"] == []
    assert end_chunk["id"] == "c"


@pytest.mark.parametrize("usage", [b"", b"not json", b"[1]"])
async def test_without_a_usage_chunk_of_the_provider_the_gateway_makes_one(
    gateway: GatewayFixture, demo: httpx.AsyncClient, usage: bytes
) -> None:
    gateway.inference.chat = streamed_response(usage_payload=usage)

    response = await demo.post(PATH, json=REQUEST | USAGE_WANTED)

    end_chunk = parse_events(response.content)[-2]
    assert end_chunk["object"] == "chat.completion.chunk"
    assert end_chunk["id"] == "c"
    assert end_chunk["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert end_chunk["argosy"]["cost_usd"] == "0.0000123"


async def test_unknown_usage_is_null_and_never_zero(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), Finished(reported(None, 2), NanoUsd(0))]

    response = await demo.post(PATH, json=REQUEST | USAGE_WANTED)

    end_chunk = parse_events(response.content)[-2]
    assert end_chunk["usage"] is None
    assert end_chunk["argosy"]["cost_usd"] == "0"


async def test_sources_come_first(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = streamed_response(sources=[SOURCE])

    response = await demo.post(PATH, json=REQUEST)

    first = parse_events(response.content)[0]
    assert first["object"] == "chat.completion.chunk"
    # The provider's own first chunk says the role.
    assert first["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert first["argosy"]["request_id"] == response.headers["x-request-id"]
    assert first["argosy"]["sources"][0]["text"] == SOURCE.text


async def test_sources_come_even_without_chunks(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = [Started([SOURCE], False), Finished(reported(1, 0), COST)]

    response = await demo.post(PATH, json=REQUEST)

    first, end_chunk, end = parse_events(response.content)
    assert first["argosy"]["sources"]
    assert end_chunk["argosy"]["cost_usd"]
    assert end == "[DONE]"


ENVELOPE = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "theirs"}


def provider_chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    return json.dumps({**ENVELOPE, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).encode()


@pytest.mark.parametrize("asked", [USAGE_WANTED, {}])
@pytest.mark.parametrize("usage_payload", [b"", json.dumps({**ENVELOPE, "id": "other", "usage": {}}).encode()])
@pytest.mark.parametrize("sources", [[], [SOURCE]])
async def test_a_stream_has_one_id_one_model_one_time_and_one_role(
    gateway: GatewayFixture, demo: httpx.AsyncClient, sources: list[Any], usage_payload: bytes, asked: dict[str, Any]
) -> None:
    chunks = [provider_chunk({"role": "assistant", "content": "a"}), provider_chunk({}, "stop")]
    finished = Finished(reported(3, 2), COST, usage_payload=usage_payload)
    gateway.inference.chat = [Started(sources, False), Chunk(chunks), finished]

    response = await demo.post(PATH, json=REQUEST | asked)

    *events, _ = parse_events(response.content)
    assert len(events) == 3 + len(sources)
    assert {(event["id"], event["model"], event["created"], event["object"]) for event in events} == {
        ("up-1", "theirs", 7, "chat.completion.chunk")
    }
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
    assert [event for event in events if "usage" in event] == (events[-1:] if asked else [])


async def test_counted_usage_is_marked_as_counted(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    counted = Finished(TokenUsage(UsageSource.COUNTED, 3, 2), COST)
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), counted]

    response = await demo.post(PATH, json=REQUEST | USAGE_WANTED)

    end_chunk = parse_events(response.content)[-2]
    assert end_chunk["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert end_chunk["argosy"]["usage_source"] == "counted"


async def test_warnings_come_first_even_without_sources(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.inference.chat = [Started((), False, ("The field x was dropped.",)), *streamed_response()[1:]]

    response = await demo.post(PATH, json=REQUEST)

    assert parse_events(response.content)[0]["argosy"]["warnings"] == ["The field x was dropped."]


async def test_the_status_waits_for_the_first_chunk(gateway: GatewayFixture) -> None:
    certain = asyncio.Event()
    gateway.inference.chat = [STARTED, certain, *streamed_response()[1:]]
    request = send_request(gateway)
    await run_loop()
    assert request.sent.empty()

    certain.set()

    assert (await request.next_message())["status"] == 200
    await request.remaining_body()


async def test_each_chunk_is_sent_when_it_comes(gateway: GatewayFixture) -> None:
    later = asyncio.Event()
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), later, Chunk([CHUNKS[1]]), FINISHED]
    request = send_request(gateway)

    await request.next_message()
    first = await request.next_message()
    assert parse_events(first["body"]) == [json.loads(CHUNKS[0])]
    assert first["more_body"]

    later.set()
    assert CHUNKS[1] in await request.remaining_body()


async def test_payloads_that_wait_are_sent_together(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [STARTED, Chunk(list(CHUNKS)), FINISHED]
    request = send_request(gateway)

    await request.next_message()
    together = await request.next_message()

    assert parse_events(together["body"]) == [json.loads(chunk) for chunk in CHUNKS]
    await request.remaining_body()


@pytest.mark.parametrize("chunk", [b'{"a":\n1}', b'{"a":\r\n1,\r\n"b":2}', b'{"a":\r1}'])
async def test_a_payload_with_line_breaks_is_still_one_event(
    gateway: GatewayFixture, demo: httpx.AsyncClient, chunk: bytes
) -> None:
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0], chunk]), FINISHED]

    response = await demo.post(PATH, json=REQUEST)

    assert parse_events(response.content)[:2] == [json.loads(CHUNKS[0]), json.loads(chunk)]


INTERRUPTED = RemoteError(Kind.UPSTREAM, "UPSTREAM_INTERRUPTED", "The provider hung up.")


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ([Finished(reported(3, 1), COST, error=INTERRUPTED)], "upstream_interrupted"),
        ([INTERRUPTED], "upstream_interrupted"),
        ([], "upstream_interrupted"),
        ([RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "gone")], "service_unavailable"),
        ([RemoteError(Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID", "forged")], "service_unavailable"),
    ],
)
async def test_an_error_after_the_first_byte_is_an_event_without_done(
    gateway: GatewayFixture, demo: httpx.AsyncClient, ending: list[Any], code: str
) -> None:
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), *ending]

    response = await demo.post(PATH, json=REQUEST)

    assert response.status_code == 200
    chunk, error = parse_events(response.content)
    assert chunk == json.loads(CHUNKS[0])
    assert error["error"]["code"] == code
    assert set(error["error"]) == {"message", "type", "param", "code"}


async def test_an_unexpected_error_after_the_first_byte_reveals_no_detail(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), ZeroDivisionError("secret")]  # type: ignore[list-item]

    response = await demo.post(PATH, json=REQUEST)

    assert parse_events(response.content)[-1]["error"]["code"] == "internal"
    assert b"secret" not in response.content


async def test_a_disconnect_cancels_the_completion(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [STARTED, Chunk([CHUNKS[0]]), asyncio.Event()]
    request = send_request(gateway)
    await request.next_message()
    await request.next_message()
    before = gateway.inference.streams[0].cancelled

    request.disconnect()
    await request.task

    assert (before, gateway.inference.streams[0].cancelled) == (False, True)
    assert request.sent.empty()


async def test_a_client_that_does_not_read_stops_reading_upstream(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [STARTED, *[Chunk([CHUNKS[0]])] * 50, FINISHED]
    request = send_request(gateway)
    request.reading.clear()

    await run_loop(100)
    (stream,) = gateway.inference.streams
    assert stream.events_read == 2  # it waits for the client

    request.reading.set()
    await request.remaining_body()
    assert stream.events_read == 52


async def test_a_disconnect_of_a_client_that_does_not_read_cancels_the_completion(gateway: GatewayFixture) -> None:
    gateway.inference.chat = [STARTED, *[Chunk([CHUNKS[0]])] * 50, FINISHED]
    request = send_request(gateway)
    request.reading.clear()
    await run_loop()

    request.disconnect()
    await request.task

    assert gateway.inference.streams[0].cancelled


async def test_a_stream_costs_one_task_however_many_chunks(
    gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    create = asyncio.create_task

    def counted(*args: Any, **options: Any) -> Any:
        made.append(args[0].__qualname__)
        return create(*args, **options)

    gateway.inference.chat = [
        STARTED,
        *[Chunk([CHUNKS[0]])] * 50,
        Finished(reported(3, 2), COST, usage_payload=USAGE_PAYLOAD),
    ]
    request = send_request(gateway)
    monkeypatch.setattr(asyncio, "create_task", counted)

    await request.remaining_body()

    # Channels to the fake peers may start tasks of their own meanwhile, but not one for each chunk.
    assert made.count("CancelOnDisconnect._watch") == 1
    assert len(made) < 25
