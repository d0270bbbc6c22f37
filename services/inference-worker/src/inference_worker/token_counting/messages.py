"""The texts in one message of OpenAI's chat completions, whether it was sent, written, or is a piece of a stream."""

import json  # noqa: TID251 - orjson rejects the halves of surrogate pairs
from collections.abc import Iterator
from typing import Any

Field = tuple[str, ...]
"""Which part of a message a text belongs to: pieces of one part are one text, with the tokens of one."""

WITHOUT_TEXT = frozenset({"role", "id", "type", "index", "status", "tool_call_id", "cache_control", "thinking_blocks"})
"""Fields that name or mark something and cost nothing, or repeat with a signature what another field holds."""

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Some upstreams send the same text under two of these names."""

TEXT_FIELDS = frozenset({"content", "refusal", "name", *REASONING_FIELDS})

PART_TEXTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
    "reasoning": "reasoning",
}
"""By the type of a content part: the field that holds its text. All other parts are media, or unknown."""


class Uncountable(Exception):
    """A document holds something besides text, or something that is not known here."""


def parse_object(document: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `Uncountable` for anything else."""
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise Uncountable("it cannot be parsed") from error
    if not isinstance(parsed, dict):
        raise Uncountable("it is not an object")
    return parsed


def message_texts(message: dict[str, Any]) -> Iterator[tuple[Field, str]]:
    """Yield each text with its field. Raises `Uncountable` for a field that is unknown and not empty."""
    reasoning: list[Any] = []
    for name, value in message.items():
        if not value or name in WITHOUT_TEXT:
            continue
        if name in REASONING_FIELDS:
            if value in reasoning:
                continue
            reasoning.append(value)
        if name in TEXT_FIELDS:
            for text in _content_texts(value):
                yield (name,), text
        elif name == "tool_calls":
            yield from _tool_call_texts(value)
        elif name == "function_call":
            yield from _function_texts((name,), value, "arguments")
        elif name == "audio":
            yield from _audio_texts(value)
        else:
            raise Uncountable(f"the field {name} is unknown")


def _content_texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, list):
        raise Uncountable("the content is neither text nor a list of parts")
    for part in content:
        if isinstance(part, str):
            yield part
            continue
        field = PART_TEXTS.get(part.get("type", "text")) if isinstance(part, dict) else None
        if field is None:
            raise Uncountable("a part is not text")
        yield from _content_texts(part.get(field))


def _tool_call_texts(calls: object) -> Iterator[tuple[Field, str]]:
    if not isinstance(calls, list):
        raise Uncountable("the tool calls are not a list")
    for position, call in enumerate(calls):
        if not isinstance(call, dict):
            raise Uncountable("a tool call is not an object")
        field = ("tool_calls", str(call.get("index", position)))
        for name, value in call.items():
            if not value or name in WITHOUT_TEXT:
                continue
            if name == "function":
                yield from _function_texts(field, value, "arguments")
            elif name == "custom":
                yield from _function_texts(field, value, "input")
            else:
                raise Uncountable(f"the field {name} of a tool call is unknown")


def _function_texts(field: Field, function: object, argument: str) -> Iterator[tuple[Field, str]]:
    if not isinstance(function, dict):
        raise Uncountable("a function is not an object")
    for name, value in function.items():
        if not value:
            continue
        if name not in ("name", argument):
            raise Uncountable(f"the field {name} of a function is unknown")
        yield (*field, name), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _audio_texts(audio: object) -> Iterator[tuple[Field, str]]:
    """Yield the transcript. Sound costs more than its transcript, so that with any of it the whole is uncountable."""
    if not isinstance(audio, dict) or audio.get("data"):
        raise Uncountable("sound is not text")
    for name, value in audio.items():
        if name == "transcript" and isinstance(value, str):
            yield ("audio",), value
        elif value and name not in ("id", "expires_at", "format"):
            raise Uncountable(f"the field {name} of sound is unknown")
