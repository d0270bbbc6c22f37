"""`POST /v1/chat/completions`, streamed."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from chassis.errors import Kind, RemoteError
from gateway.domain.inference import Begun, Finished, Payloads, Tokens
from gateway.domain.money import NanoUsd

from services.gateway.tests.fakes.inference import CHUNKS, COST, SOURCE, USAGE, streamed_answer
from services.gateway.tests.fakes.world import Visit, World, turns

PATH = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
BEGUN = Begun((), soft_limit_passed=False)


def events_of(body: bytes) -> list[Any]:
    """What a client makes of it; the end mark stays a text."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    texts = ["\n".join(line.removeprefix("data: ") for line in block.split("\n")) for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def visit(world: World, **fields: Any) -> Visit:
    return Visit(world, PATH, json.dumps(ASKED | fields).encode())


async def test_chunks_come_as_the_provider_wrote_them_and_the_last_one_has_the_bill(
    world: World, demo: httpx.AsyncClient
) -> None:
    world.inference.chat = streamed_answer()

    answer = await demo.post(PATH, json=ASKED)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert CHUNKS[0] in answer.content
    assert CHUNKS[1] in answer.content
    *chunks, bill, end = events_of(answer.content)
    assert len(chunks) == 2
    assert end == "[DONE]"
    assert bill["argosy"] == {"request_id": answer.headers["x-request-id"], "cost_usd": "0.0000123"}
    assert bill["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    # Who did not ask for usage reads choices[0] without a look.
    assert bill["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]


async def test_who_asked_for_usage_gets_the_usage_chunk_of_openai(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = streamed_answer()

    answer = await demo.post(PATH, json=ASKED | {"stream_options": {"include_usage": True}})

    bill = events_of(answer.content)[-2]
    assert bill["choices"] == []
    assert bill["id"] == "c"


@pytest.mark.parametrize("usage", [b"", b"not json", b"[1]"])
async def test_a_bill_is_written_when_the_provider_had_no_last_word(
    world: World, demo: httpx.AsyncClient, usage: bytes
) -> None:
    world.inference.chat = streamed_answer(usage=usage)

    answer = await demo.post(PATH, json=ASKED)

    bill = events_of(answer.content)[-2]
    assert bill["object"] == "chat.completion.chunk"
    assert bill["model"] == "smollm2"
    assert bill["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert bill["argosy"]["cost_usd"] == "0.0000123"


async def test_unknown_usage_is_null_and_never_zero(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0]]), Finished(Tokens(None, 2), NanoUsd(0))]

    answer = await demo.post(PATH, json=ASKED)

    bill = events_of(answer.content)[-2]
    assert bill["usage"] is None
    assert bill["argosy"]["cost_usd"] == "0"


async def test_sources_come_first(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = streamed_answer(sources=[SOURCE])

    answer = await demo.post(PATH, json=ASKED)

    first = events_of(answer.content)[0]
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert first["argosy"]["request_id"] == answer.headers["x-request-id"]
    assert first["argosy"]["sources"][0]["text"] == SOURCE.text


async def test_sources_come_even_when_no_chunk_does(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = [Begun([SOURCE], False), Finished(Tokens(1, 0), COST)]

    answer = await demo.post(PATH, json=ASKED)

    first, bill, end = events_of(answer.content)
    assert first["argosy"]["sources"]
    assert bill["argosy"]["cost_usd"]
    assert end == "[DONE]"


async def test_the_status_waits_for_the_first_chunk(world: World) -> None:
    certain = asyncio.Event()
    world.inference.chat = [BEGUN, certain, *streamed_answer()[1:]]
    visiting = visit(world)
    await turns()
    assert visiting.sent.empty()

    certain.set()

    assert (await visiting.next())["status"] == 200
    await visiting.body()


async def test_each_chunk_is_sent_when_it_comes(world: World) -> None:
    later = asyncio.Event()
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0]]), later, Payloads([CHUNKS[1]]), Finished(Tokens(3, 2), COST)]
    visiting = visit(world)

    await visiting.next()
    first = await visiting.next()
    assert events_of(first["body"]) == [json.loads(CHUNKS[0])]
    assert first["more_body"]

    later.set()
    assert CHUNKS[1] in await visiting.body()


async def test_payloads_that_wait_are_sent_together(world: World) -> None:
    world.inference.chat = [BEGUN, Payloads(list(CHUNKS)), Finished(Tokens(3, 2), COST)]
    visiting = visit(world)

    await visiting.next()
    together = await visiting.next()

    assert events_of(together["body"]) == [json.loads(chunk) for chunk in CHUNKS]
    await visiting.body()


@pytest.mark.parametrize("chunk", [b'{"a":\n1}', b'{"a":\r\n1,\r\n"b":2}', b'{"a":\r1}'])
async def test_a_payload_with_line_breaks_is_still_one_event(
    world: World, demo: httpx.AsyncClient, chunk: bytes
) -> None:
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0], chunk]), Finished(Tokens(3, 2), COST)]

    answer = await demo.post(PATH, json=ASKED)

    assert events_of(answer.content)[:2] == [json.loads(CHUNKS[0]), json.loads(chunk)]


FAILURE = RemoteError(Kind.UPSTREAM, "UPSTREAM_CUT", "The provider hung up.")


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ([Finished(Tokens(3, 1), COST, failure=FAILURE)], "upstream_cut"),
        ([FAILURE], "upstream_cut"),
        ([], "upstream_cut"),
        ([RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "gone")], "service_unavailable"),
        ([RemoteError(Kind.UNAUTHENTICATED, "PRINCIPAL_INVALID", "forged")], "service_unavailable"),
    ],
)
async def test_what_fails_after_the_first_byte_is_an_event_and_there_is_no_end_mark(
    world: World, demo: httpx.AsyncClient, ending: list[Any], code: str
) -> None:
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0]]), *ending]

    answer = await demo.post(PATH, json=ASKED)

    assert answer.status_code == 200
    chunk, error = events_of(answer.content)
    assert chunk == json.loads(CHUNKS[0])
    assert error["error"]["code"] == code
    assert set(error["error"]) == {"message", "type", "param", "code"}


async def test_a_bug_after_the_first_byte_tells_nothing_of_itself(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0]]), ZeroDivisionError("secret")]  # type: ignore[list-item]

    answer = await demo.post(PATH, json=ASKED)

    assert events_of(answer.content)[-1]["error"]["code"] == "internal"
    assert b"secret" not in answer.content


async def test_a_client_that_leaves_stops_the_answer_at_once(world: World) -> None:
    world.inference.chat = [BEGUN, Payloads([CHUNKS[0]]), asyncio.Event()]
    visiting = visit(world)
    await visiting.next()
    await visiting.next()
    before = world.inference.answers[0].cancelled

    visiting.leave()
    await visiting.task

    assert (before, world.inference.answers[0].cancelled) == (False, True)
    assert visiting.sent.empty()


async def test_a_client_that_does_not_read_stops_the_reading_upstream(world: World) -> None:
    world.inference.chat = [BEGUN, *[Payloads([CHUNKS[0]])] * 50, Finished(Tokens(3, 2), COST)]
    visiting = visit(world)
    visiting.reading.clear()

    await turns(100)
    (answer,) = world.inference.answers
    assert answer.read == 2  # it waits for the client

    visiting.reading.set()
    await visiting.body()
    assert answer.read == 52


async def test_a_client_that_neither_reads_nor_stays_stops_the_answer(world: World) -> None:
    world.inference.chat = [BEGUN, *[Payloads([CHUNKS[0]])] * 50, Finished(Tokens(3, 2), COST)]
    visiting = visit(world)
    visiting.reading.clear()
    await turns()

    visiting.leave()
    await visiting.task

    assert world.inference.answers[0].cancelled


async def test_a_stream_costs_one_task_however_many_chunks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    create = asyncio.create_task

    def counted(*args: Any, **options: Any) -> Any:
        made.append(args)
        return create(*args, **options)

    world.inference.chat = [BEGUN, *[Payloads([CHUNKS[0]])] * 50, Finished(Tokens(3, 2), COST, usage_document=USAGE)]
    visiting = visit(world)
    monkeypatch.setattr(asyncio, "create_task", counted)

    await visiting.body()

    assert len(made) <= 2  # the look-up of the key, and the watch for the client's departure
