"""Puts the chunks of a streamed chat completion together to the whole completion that a call without one returns."""

import json  # noqa: TID251 - orjson rejects the halves of surrogate pairs, and NaN
from typing import Any

import orjson
from values.limits import MAX_CHAT_BYTES

from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError

MAX_CHOICES = 128
MAX_TOOL_CALLS = 1024

# Everything else that comes twice replaces what came before.
TEXTS = frozenset(
    {"content", "refusal", "reasoning_content", "reasoning", "thinking", "arguments", "data", "transcript"}
)


class CompletionAssembler:
    """Add all payloads of a stream in order, then take the `result`."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._bytes = 0

    def add(self, payload: bytes) -> None:
        """Raises `UpstreamFailed` for a payload that is no chunk, and for an answer that is too large."""
        self._bytes += len(payload)
        if self._bytes > 8 * MAX_CHAT_BYTES:
            raise _too_large()
        chunk = _parse(payload)
        choices = chunk.pop("choices", None) or []
        _replace(self._fields, chunk)
        if not isinstance(choices, list):
            raise _malformed("the choices are not a list")
        for position, choice in enumerate(choices):
            self._add_choice(position, choice)

    def result(self, usage_payload: bytes = b"") -> bytes:
        """Return the completion as JSON; `usage_payload` is the last chunk, when it was kept apart.

        Raises `UpstreamFailed` when there was no choice, and for an answer that is too large.
        """
        if usage_payload:
            self.add(usage_payload)
        if not self._choices:
            raise _malformed("the stream has no choice")
        choices = [choice.document(index) for index, choice in sorted(self._choices.items())]
        body = _dump({**self._fields, "object": "chat.completion", "choices": choices})
        if len(body) > MAX_CHAT_BYTES:
            raise _too_large()
        return body

    def _add_choice(self, position: int, choice: Any) -> None:
        if not isinstance(choice, dict):
            raise _malformed("a choice is not an object")
        index = choice.pop("index", None)
        # Some providers leave it out when there is only one.
        index = index if isinstance(index, int) else position
        if index not in self._choices and len(self._choices) >= MAX_CHOICES:
            raise _malformed("the stream has too many choices")
        self._choices.setdefault(index, _Choice()).add(choice)


class _Choice:
    def __init__(self) -> None:
        self._fields: dict[str, Any] = {"finish_reason": None}
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._tool_calls: list[dict[str, Any]] = []
        self._logprobs: dict[str, Any] = {}

    def add(self, choice: dict[str, Any]) -> None:
        # A whole message, at the end of a stream of some providers, holds all that the deltas had.
        delta, message = choice.pop("delta", None), choice.pop("message", None)
        logprobs = choice.pop("logprobs", None)
        if isinstance(message, dict) and not delta:
            self._message, self._tool_calls, delta = {"role": "assistant", "content": None}, [], message
        if delta is not None and not isinstance(delta, dict):
            raise _malformed("a delta is not an object")
        for name, value in (delta or {}).items():
            if name == "tool_calls":
                self._add_tool_calls(value)
            else:
                _merge(self._message, name, value)
        if isinstance(logprobs, dict):
            for name, value in logprobs.items():
                _merge(self._logprobs, name, value)
        _replace(self._fields, choice)

    def document(self, index: int) -> dict[str, Any]:
        message = _document(self._message)
        if self._tool_calls:
            message["tool_calls"] = [{"type": "function", **_document(call)} for call in self._tool_calls]
        logprobs = _document(self._logprobs) if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, **self._fields}

    def _add_tool_calls(self, calls: Any) -> None:
        if calls is None:
            return
        if not isinstance(calls, list):
            raise _malformed("the tool calls are not a list")
        for piece in calls:
            if not isinstance(piece, dict):
                raise _malformed("a tool call is not an object")
            call = self._find_tool_call(piece.pop("index", None), piece.get("id"))
            for name, value in piece.items():
                _merge(call, name, value)

    def _find_tool_call(self, index: Any, call_id: Any) -> dict[str, Any]:
        """Return the call that a piece belongs to: by its index, unless its id says that it is another one.

        Some providers give every call the index 0, or none.
        """
        call: dict[str, Any] | None = None
        if isinstance(index, int):
            numbered = [known for known in self._tool_calls if known["index"] == index]
            call = numbered[-1] if numbered else None
        elif self._tool_calls and not call_id:
            call = self._tool_calls[-1]
        elif call_id:
            call = next((known for known in self._tool_calls if known.get("id") == call_id), None)
        if call is None or (call_id and call.get("id") and call["id"] != call_id):
            if len(self._tool_calls) >= MAX_TOOL_CALLS:
                raise _malformed("the stream has too many tool calls")
            call = {"index": index}
            self._tool_calls.append(call)
        return call


class _Pieces(list[str]):
    """A text that is still growing: joined once, because a string that grows is copied each time."""


def _merge(target: dict[str, Any], name: str, value: Any) -> None:
    """Add the piece `value` to a field: texts and lists grow, objects merge, all else is replaced."""
    known = target.get(name)
    if value is None or value == "":
        if known is None:
            target[name] = value
    elif isinstance(value, list):
        _extend(target, name, value)
    elif isinstance(value, str) and name in TEXTS:
        if isinstance(known, _Pieces):
            known.append(value)
        elif isinstance(known, list):
            known.append(_text_part(value))
        else:
            target[name] = _Pieces([value])
    elif isinstance(value, dict):
        inner = target[name] = known if isinstance(known, dict) else {}
        for inner_name, inner_value in value.items():
            _merge(inner, inner_name, _as_text(inner_name, inner_value))
    elif name == "name" and isinstance(known, str) and value != known:
        target[name] = known + value  # of a function: some providers send it in pieces, others repeat it
    else:
        target[name] = value


def _extend(target: dict[str, Any], name: str, values: list[Any]) -> None:
    known = target.get(name)
    if isinstance(known, _Pieces):
        target[name] = [_text_part("".join(known)), *values]
    elif isinstance(known, list):
        known.extend(values)
    else:
        target[name] = [*values]


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _as_text(name: str, value: Any) -> Any:
    """Some providers write a call's arguments as an object, where OpenAI writes its JSON."""
    return _dump(value).decode() if name == "arguments" and isinstance(value, dict) else value


def _document(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its texts joined and without the index by which its pieces were sorted."""
    return {name: _joined(value) for name, value in fields.items() if name != "index"}


def _joined(value: Any) -> Any:
    if isinstance(value, _Pieces):
        return "".join(value)
    return _document(value) if isinstance(value, dict) else value


def _replace(target: dict[str, Any], fields: dict[str, Any]) -> None:
    """Keep the last value of each field that is not null."""
    for name, value in fields.items():
        if value is not None or name not in target:
            target[name] = value


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            chunk = json.loads(payload)
        except (ValueError, RecursionError):
            raise _malformed("a chunk is not JSON") from None
    if not isinstance(chunk, dict):
        raise _malformed("a chunk is not an object")
    return chunk


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        # With escapes, so that the halves of a surrogate pair that came in two chunks are one character again.
        return json.dumps(value, separators=(",", ":")).encode()


def _malformed(problem: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"the upstream's stream cannot be put together: {problem}")


def _too_large() -> UpstreamFailed:
    return UpstreamFailed(f"the answer is larger than the {MAX_CHAT_BYTES} bytes that a job's result may have")
