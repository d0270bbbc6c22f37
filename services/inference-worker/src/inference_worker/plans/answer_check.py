"""What an answer must be before it is passed on: a cheap candidate's, when another one can still take its place."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from inference_worker.plans.model import AnswerCheck


def find_fault(payloads: Sequence[bytes], check: AnswerCheck) -> str | None:
    """Return in words what is wrong with a whole answer of chat completions; None when nothing is.

    Each of its choices must pass. One that calls a tool passes.
    """
    if check is AnswerCheck.NONE:
        return None
    try:
        document = orjson.loads(b"".join(payloads))
    except orjson.JSONDecodeError:
        return "it cannot be read"
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices:
        return "it has no choices"
    return next((fault for fault in _faults(choices, check) if fault is not None), None)


def _faults(choices: Sequence[Any], check: AnswerCheck) -> Iterator[str | None]:
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            yield "it has no message"
        elif message.get("tool_calls") or message.get("function_call"):
            yield None
        else:
            yield _fault(_text(message.get("content")), check)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _fault(text: str, check: AnswerCheck) -> str | None:
    if not text.strip():
        return "it is empty"
    if check is AnswerCheck.JSON:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return "it is not JSON"
    return None
