"""Requests of the bench and responses of its upstream: OpenAI-compatible chats of fixed sizes."""

import json

PROSE = "The quick brown fox jumps over the lazy dog while the gateway counts tokens and bills them. "
OUTPUT_TOKENS, CHUNKS = 60, 100
PROMPT_TOKENS = 480
ANSWER_ID, CREATED, MODEL = "chatcmpl-bench00000000000000000001", 1_750_000_000, "bench"


def chat_body(model: str, *, stream: bool = False, size_bytes: int = 2048, max_tokens: int = 256) -> bytes:
    """Return a chat request whose body has `size_bytes`, or the smallest possible size."""
    body = {
        "model": model,
        "max_tokens": max_tokens,
        "stream": stream,
        "messages": [{"role": "system", "content": "Answer in sixty words."}, {"role": "user", "content": ""}],
    }
    room = max(size_bytes - len(json.dumps(body)), 1)
    body["messages"][1]["content"] = (PROSE * (room // len(PROSE) + 1))[:room]  # type: ignore[index]
    return json.dumps(body).encode()


def _chunked(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _event(choices: list[object], usage: object = None) -> bytes:
    chunk = {"id": ANSWER_ID, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}
    more = {"usage": usage} if usage else {}
    return _chunked(b"data: " + json.dumps({**chunk, "choices": choices, **more}).encode() + b"\n\n")


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])


def _usage(output_tokens: int) -> dict[str, int]:
    total = PROMPT_TOKENS + output_tokens
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": output_tokens, "total_tokens": total}


def complete_response() -> bytes:
    """Return a complete HTTP response of 60 output tokens."""
    message = {"role": "assistant", "content": " ".join((PROSE * 4).split()[:OUTPUT_TOKENS])}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {"id": ANSWER_ID, "object": "chat.completion", "created": CREATED, "model": MODEL}
    body = json.dumps({**answer, "choices": [choice], "usage": _usage(OUTPUT_TOKENS)}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def stream_pieces() -> list[bytes]:
    """Return a streamed response as the pieces to write: the head with the role, 100 chunks, the end."""
    first = STREAM_HEAD + _delta({"role": "assistant", "content": ""})
    end = _delta({}, "stop") + _event([], _usage(CHUNKS)) + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [first, *[_delta({"content": " token"})] * CHUNKS, end]
