"""What the events of a stream with OpenAI's API are: chunks of the completion, and all that is not one."""

from collections.abc import Mapping
from typing import Any

from inference_worker.providers.payloads import dump

CHUNK = "chat.completion.chunk"

ERROR = b'"error"'
"""It is in no JSON string: there its quotes are escaped."""

ENVELOPE = frozenset({"id", "object", "created", "model", "choices", "usage"})


_KNOWN_FIELDS = ENVELOPE | {"system_fingerprint", "service_tier", "provider", "obfuscation"}


def has_only_known_fields(event: Mapping[str, Any]) -> bool:
    """Tell whether an event has no field besides those of a chunk: then only `error` within these could be an error."""
    return event.keys() <= _KNOWN_FIELDS


def is_usage_chunk(event: Mapping[str, Any]) -> bool:
    """Tell whether a chunk holds nothing but the usage, at OpenAI's place."""
    return event.get("choices") == [] and event.get("object") == CHUNK and event.keys() <= _KNOWN_FIELDS


def is_chunk(event: Mapping[str, Any], name: bytes = b"") -> bool:
    """Tell whether an event is a chunk. One with a name of its own has to say so: other names are other things."""
    if name and event.get("object") != CHUNK:
        return False
    return isinstance(event.get("choices"), list) or isinstance(event.get("usage"), dict)


def usage_chunk(event: Mapping[str, Any], usage: Mapping[str, Any]) -> bytes:
    """Return a chunk that holds nothing but the usage, for the stream that `event` is of."""
    envelope = {name: value for name, value in event.items() if name in ENVELOPE or not event.get("choices")}
    envelope.pop("x_groq", None)
    return dump({**envelope, "object": CHUNK, "choices": [], "usage": usage})


def emit_role_once(event: dict[str, Any], with_role: set[int], *, first: bool) -> bool:
    """Give each choice its role once, and tell whether the chunk was changed. `with_role` grows.

    Clients that add up the fields of a stream get `assistantassistant` from a role in each chunk; without any, some
    take what was written for nobody's. The `first` chunk gets one that it lacks.
    """
    changed = False
    for position, choice in enumerate(event["choices"]):
        delta = choice.get("delta") if isinstance(choice, dict) else None
        index = choice.get("index", position) if isinstance(choice, dict) else None
        if not isinstance(delta, dict) or not isinstance(index, int):
            continue
        if "role" in delta and index in with_role:
            del delta["role"]
            changed = True
        elif delta.get("role"):
            with_role.add(index)
        elif first:
            choice["delta"] = {"role": "assistant", **{name: delta[name] for name in delta if name != "role"}}
            with_role.add(index)
            changed = True
    return changed


def completion_to_chunks(completion: dict[str, Any]) -> list[bytes]:
    """Return a whole completion as the chunks of a stream: for each choice its message, then its finish reason."""
    envelope = {name: value for name, value in completion.items() if name not in {"choices", "usage", "object"}}
    chunks = []
    for position, choice in enumerate(completion["choices"]):
        if not isinstance(choice, dict):
            continue
        index = choice.get("index", position)
        delta = dict(choice.get("message") or choice.get("delta") or {})
        if isinstance(delta.get("tool_calls"), list):
            calls = (call for call in delta["tool_calls"] if isinstance(call, dict))
            delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
        end = {name: value for name, value in choice.items() if name not in {"index", "message", "delta", "logprobs"}}
        first = {"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        last = {"index": index, "delta": {}, "logprobs": None, "finish_reason": "stop", **end}
        chunks += [dump({**envelope, "object": CHUNK, "choices": [piece]}) for piece in (first, last)]
    return chunks
