"""The texts of a chat, dug out of opaque bodies only when somebody must count them.

Bodies and payloads are OpenAI's. What cannot be read is skipped: an estimate of the tokens is better than none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

FOLD_AFTER_BYTES = 256 * 1024
"""Payloads kept as they came; beyond it their text is taken out and they are dropped."""

TEXT_LIMIT = 4 * 1024 * 1024
"""Characters of text kept. A longer answer cannot be counted."""

MESSAGE_OVERHEAD = 3
"""Tokens that chat templates put around each message, and before the answer."""


class Transcript:
    """What an answer has said so far, kept cheaply and bounded."""

    __slots__ = ("_bytes", "_characters", "_payloads", "_texts")

    def __init__(self) -> None:
        self._payloads: list[bytes] = []
        self._bytes = 0
        self._texts: list[str] = []
        self._characters = 0

    def add(self, payloads: Sequence[bytes]) -> None:
        """Keep payloads that were handed on."""
        self._payloads.extend(payloads)
        self._bytes += sum(map(len, payloads))
        if self._bytes > FOLD_AFTER_BYTES:
            self._fold()

    def texts(self) -> list[str] | None:
        """Everything said; None when it was too much to keep."""
        self._fold()
        return None if self._characters > TEXT_LIMIT else ["".join(self._texts)]

    def _fold(self) -> None:
        payloads, self._payloads, self._bytes = self._payloads, [], 0
        if self._characters > TEXT_LIMIT:
            return
        for payload in payloads:
            for text in answer_texts(payload):
                self._texts.append(text)
                self._characters += len(text)
        if self._characters > TEXT_LIMIT:
            self._texts.clear()


def answer_texts(payload: bytes) -> Iterator[str]:
    """Texts that the model wrote in one payload: a whole answer or a streamed piece of one."""
    for choice in _objects(_parse(payload).get("choices")):
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            yield from _written(message)


def prompt_texts(body: bytes) -> list[str] | None:
    """Texts that the model reads; None when the body holds images, sound or files, which are not text."""
    parsed = _parse(body)
    texts: list[str] = []
    for message in _objects(parsed.get("messages")):
        parts = _content(message.get("content"))
        if parts is None:
            return None
        texts += [*parts, *_calls(message)]
    if parsed.get("tools"):
        texts.append(json.dumps(parsed["tools"], ensure_ascii=False))
    return texts


def prompt_overhead(body: bytes) -> int:
    """Tokens of the chat template around the messages, about."""
    return MESSAGE_OVERHEAD * (1 + sum(1 for _ in _objects(_parse(body).get("messages"))))


def _written(message: dict[str, Any]) -> Iterator[str]:
    for key in ("reasoning_content", "reasoning", "content", "refusal"):
        if isinstance(message.get(key), str):
            yield message[key]
    yield from _calls(message)


def _calls(message: dict[str, Any]) -> Iterator[str]:
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            yield from (function[key] for key in ("name", "arguments") if isinstance(function.get(key), str))


def _content(content: object) -> list[str] | None:
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
