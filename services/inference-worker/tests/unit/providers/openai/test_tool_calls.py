"""Each streamed tool call has an index of its own, whatever the upstream writes."""

import json
from typing import Any

import pytest
from inference_worker.providers.openai.chat_stream import ChatStream
from inference_worker.providers.openai.tool_calls import ToolCallPlaces
from raw_http_server import RawHttpServer


def a_chunk(*calls: dict[str, Any], choice: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": choice, "delta": {"tool_calls": list(calls)}, "finish_reason": None}]}


def a_call(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = ""
) -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"arguments": arguments}}
    if index is not None:
        call["index"] = index
    if call_id is not None:
        call["id"] = call_id
    if name is not None:
        call["function"]["name"] = name
    return call


def indexes(*chunks: dict[str, Any]) -> list[list[int]]:
    places = ToolCallPlaces()
    for chunk in chunks:
        places.mend(chunk)
    return [
        [call["index"] for choice in chunk["choices"] for call in choice["delta"]["tool_calls"]] for chunk in chunks
    ]


OPENAI = [
    a_chunk(a_call(0, "a", "f")),
    a_chunk(a_call(0, arguments="{")),
    a_chunk(a_call(1, "b", "g")),
    a_chunk(a_call(1, arguments="{")),
    a_chunk(a_call(0, arguments="}")),
]
ROWS = {
    "as OpenAI writes them": (OPENAI, [[0], [0], [1], [1], [0]]),
    "parallel calls that all have the index 0": (
        [a_chunk(a_call(0, "a", "f", "{}")), a_chunk(a_call(0, "b", "f", "{}")), a_chunk(a_call(0, "c", "g", "{}"))],
        [[0], [1], [2]],
    ),
    "parallel calls of one chunk with the index 0": ([a_chunk(a_call(0, "a", "f"), a_call(0, "b", "f"))], [[0, 1]]),
    "no index": (
        [a_chunk(a_call(None, "a", "f")), a_chunk(a_call(None, arguments="{")), a_chunk(a_call(None, "b", "g"))],
        [[0], [0], [1]],
    ),
    "no index and no id": ([a_chunk(a_call(None, "", "f")), a_chunk(a_call(None, "", arguments="{"))], [[0], [0]]),
    "the id in each piece": (
        [a_chunk(a_call(0, "a", "f")), a_chunk(a_call(0, "a", "f", "{")), a_chunk(a_call(1, "b", "g"))],
        [[0], [0], [1]],
    ),
    "another id in each piece": (
        [a_chunk(a_call(0, "a", "f")), a_chunk(a_call(0, "x", arguments="{")), a_chunk(a_call(0, "y", arguments="}"))],
        [[0], [0], [0]],
    ),
    "the name of the function as the id of both calls": (
        [
            a_chunk(a_call(0, "f", "f", "{")),
            a_chunk(a_call(1, "f", "f", "{")),
            a_chunk(a_call(0, "f", arguments="}")),
            a_chunk(a_call(1, arguments="}")),
        ],
        [[0], [1], [0], [1]],
    ),
    "indexes that begin at 1": ([a_chunk(a_call(1, "a", "f")), a_chunk(a_call(2, "b", "g"))], [[1], [2]]),
    "a piece of the second call with the index of the first": (
        [a_chunk(a_call(0, "a", "f")), a_chunk(a_call(0, "b", "g")), a_chunk(a_call(0, arguments="{}"))],
        [[0], [1], [1]],
    ),
    "each choice for itself": (
        [a_chunk(a_call(0, "a", "f")), a_chunk(a_call(0, "b", "f"), choice=1), a_chunk(a_call(0, "c", "f"))],
        [[0], [0], [1]],
    ),
}


@pytest.mark.parametrize(("chunks", "expected"), ROWS.values(), ids=ROWS)
def test_each_call_has_one_index(chunks: list[dict[str, Any]], expected: list[list[int]]):
    assert indexes(*json.loads(json.dumps(chunks))) == expected


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
async def test_a_stream_with_tools_is_mended_and_one_without_passes_unchanged(separators: tuple[str, str]):
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    chunks = [role, *ROWS["parallel calls that all have the index 0"][0], end]
    sent = [json.dumps(chunk, separators=separators).encode() for chunk in chunks]
    body = b"".join(b"data: %b\n\n" % payload for payload in sent) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)

    async def received(*, has_tools: bool) -> list[bytes]:
        async with RawHttpServer(head + body).client() as client:
            stream = ChatStream(await client.post("/chat/completions", b"{}"), client, has_tools=has_tools)
            payloads: list[bytes] = []
            while more := await stream.read():
                payloads += more
            return payloads

    mended = [json.loads(payload)["choices"][0]["delta"] for payload in await received(has_tools=True)]
    assert [delta["tool_calls"][0]["index"] for delta in mended[1:-1]] == [0, 1, 2]
    assert await received(has_tools=False) == sent
