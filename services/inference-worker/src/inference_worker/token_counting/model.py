"""Token counters, and the texts of a chat that they count.

Bodies and payloads are OpenAI's. They are parsed only when a provider did not report its usage. Parts that cannot be
parsed are skipped: an estimate of the tokens is better than none.
"""

# Not orjson: it rejects the halves of surrogate pairs, into which some providers split an emoji.
import json  # noqa: TID251 - see above
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

EXTRACT_AFTER_BYTES = 256 * 1024
"""Payloads are kept as they came up to this size; beyond it only their text is kept."""

MAX_TEXT_CHARACTERS = 4 * 1024 * 1024
"""Longest output that is kept, and so can be counted."""

MESSAGE_OVERHEAD_TOKENS = 3
"""Tokens that chat templates put around each message, and before the output."""


class TokenCounter(Protocol):
    """Counts tokens when a provider does not report them."""

    async def count(self, texts: Sequence[str]) -> int | None:
        """Return the tokens of all texts together; None when the tokenizer is unknown or fails."""


class NullTokenCounter:
    """The counter of an upstream whose tokenizer is unknown."""

    async def count(self, texts: Sequence[str]) -> int | None:  # noqa: ARG002 - part of the port
        return None


async def count_prompt(body: bytes, counter: TokenCounter) -> int | None:
    """Return the prompt tokens of a chat body; None when it holds more than text, or the tokenizer is unknown."""
    texts = prompt_texts(body)
    counted = None if texts is None else await counter.count(texts)
    return None if counted is None else counted + prompt_overhead(body)


class OutputText:
    """The text of a response so far, in bounded memory and parsed only when needed."""

    __slots__ = ("_characters", "_payload_bytes", "_payloads", "_texts")

    def __init__(self) -> None:
        self._payloads: list[bytes] = []
        self._payload_bytes = 0
        self._texts: list[str] = []
        self._characters = 0

    def add(self, payloads: Sequence[bytes]) -> None:
        """Keep payloads that were forwarded to the client."""
        self._payloads.extend(payloads)
        self._payload_bytes += sum(map(len, payloads))
        if self._payload_bytes > EXTRACT_AFTER_BYTES:
            self._extract()

    def texts(self) -> list[str] | None:
        """Return all text; None when it was too long to keep."""
        self._extract()
        return None if self._characters > MAX_TEXT_CHARACTERS else ["".join(self._texts)]

    def _extract(self) -> None:
        payloads, self._payloads, self._payload_bytes = self._payloads, [], 0
        if self._characters > MAX_TEXT_CHARACTERS:
            return
        for payload in payloads:
            for text in output_texts(payload):
                self._texts.append(text)
                self._characters += len(text)
        if self._characters > MAX_TEXT_CHARACTERS:
            self._texts.clear()


def output_texts(payload: bytes) -> Iterator[str]:
    """Yield the texts that the model wrote in one payload: a completion or a chunk of one."""
    for choice in _objects(_parse(payload).get("choices")):
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            yield from _message_texts(message)


def prompt_texts(body: bytes) -> list[str] | None:
    """Return the texts that the model reads; None when the body holds images, sound or files, which are not text."""
    parsed = _parse(body)
    texts: list[str] = []
    for message in _objects(parsed.get("messages")):
        parts = _content_texts(message.get("content"))
        if parts is None:
            return None
        texts += [*parts, *_tool_call_texts(message)]
    if parsed.get("tools"):
        texts.append(json.dumps(parsed["tools"], ensure_ascii=False))
    return texts


def prompt_overhead(body: bytes) -> int:
    """Estimate the tokens of the chat template around the messages."""
    return MESSAGE_OVERHEAD_TOKENS * (1 + sum(1 for _ in _objects(_parse(body).get("messages"))))


def _message_texts(message: dict[str, Any]) -> Iterator[str]:
    for key in ("reasoning_content", "reasoning", "content", "refusal"):
        if isinstance(message.get(key), str):
            yield message[key]
    yield from _tool_call_texts(message)


def _tool_call_texts(message: dict[str, Any]) -> Iterator[str]:
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            yield from (function[key] for key in ("name", "arguments") if isinstance(function.get(key), str))


def _content_texts(content: object) -> list[str] | None:
    if isinstance(content, str):
        return [content]
    texts = []
    for part in _objects(content):
        if not isinstance(part.get("text"), str):
            return None
        texts.append(part["text"])
    return texts


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _parse(document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
