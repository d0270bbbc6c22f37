"""Messages of a request: turns whose roles alternate, first the user's, each tool call with its result in the next."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import orjson

from inference_worker.providers.anthropic.content import to_blocks
from inference_worker.providers.model import UpstreamRejected

Block = dict[str, Any]

PLACEHOLDER = "."
"""Anthropic wants a user's turn first, and text in it that is not blank."""

THINKING = frozenset({"thinking", "redacted_thinking"})

_TOOL_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def to_turns(messages: object) -> tuple[list[Block], list[Block]]:
    """Return the system's blocks, and the turns."""
    system: list[Block] = []
    turns: list[Block] = []
    for position, message in enumerate(objects(messages)):
        role = message.get("role")
        if role in {"system", "developer"}:
            system += to_blocks(message.get("content"), only_text=True)
        elif role == "assistant":
            _append(turns, "assistant", _assistant_blocks(message, position))
        else:
            _append(turns, "user", _user_blocks(message, position))
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": PLACEHOLDER}]})
    for turn in turns:
        if turn["role"] == "user":
            # Results come first in their turn: a stable sort keeps all else in its order.
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _check_results(turns)
    _trim_prefill(turns[-1])
    return system, turns


def _check_results(turns: list[Block]) -> None:
    """Raises `UpstreamRejected`, with fallback, unless each call has its result in the next turn, and no other does."""
    calls: list[str] = []
    for turn in turns:
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        if missing := [call for call in calls if call not in results]:
            raise _unanswered(f"the calls {', '.join(missing)} of the assistant have no results: each needs a message")
        if orphans := [result for result in results if result not in calls]:
            raise _unanswered(f"the results {', '.join(orphans)} have no call in the assistant's message before")
        calls = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    if calls:
        raise _unanswered(f"the calls {', '.join(calls)} of the assistant have no results: each needs a message")


def _unanswered(why: str) -> UpstreamRejected:
    return UpstreamRejected(
        f"this upstream takes calls of tools with their results only: {why}", param="messages", fallback=True
    )


def to_tool_id(value: object) -> str:
    """Return an id that Anthropic takes, the same for the same value: other providers use colons and dots, too."""
    text = value if isinstance(value, str) else ""
    if _TOOL_CALL_ID.fullmatch(text):
        return text
    return f"call_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def objects(value: object) -> Iterable[dict[str, Any]]:
    """Yield the objects of a list; nothing for anything else."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _append(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        # Anthropic requires all results of parallel tool calls in one message.
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _user_blocks(message: dict[str, Any], position: int) -> list[Block]:
    blocks = to_blocks(message.get("content"))
    if message.get("role") == "function":
        # The answer to the call of the message before it, which has no id of its own.
        return [_result(f"call_{position - 1}", blocks)]
    return [_result(message.get("tool_call_id"), blocks)] if message.get("role") == "tool" else blocks


def _result(call: object, blocks: list[Block]) -> Block:
    return {"type": "tool_result", "tool_use_id": to_tool_id(call), "content": blocks}


def _assistant_blocks(message: dict[str, Any], position: int) -> list[Block]:
    blocks = [
        block for block in objects(message.get("thinking_blocks")) if block.get("type") in THINKING and _signed(block)
    ]
    blocks += to_blocks(message.get("content"), only_text=True)
    if isinstance(message.get("refusal"), str):
        blocks += to_blocks(message["refusal"])
    for call in objects(message.get("tool_calls")):
        blocks.append(_tool_use(call.get("id"), call.get("function") or {}))
    if isinstance(message.get("function_call"), dict):
        blocks.append(_tool_use(f"call_{position}", message["function_call"]))
    return blocks


def _signed(block: Block) -> bool:
    """Tell whether thinking has what Anthropic checks it by; without it the whole request would be refused."""
    return bool(block.get("signature") or block.get("data"))


def _tool_use(call_id: object, function: dict[str, Any]) -> Block:
    name, arguments = function.get("name", ""), _parse_arguments(function.get("arguments"))
    return {"type": "tool_use", "id": to_tool_id(call_id), "name": name, "input": arguments}


def _parse_arguments(arguments: object) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    try:
        parsed = orjson.loads(arguments) if isinstance(arguments, str) and arguments.strip() else {}
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise UpstreamRejected("this upstream needs a tool call's arguments as a JSON object", fallback=True)
    return parsed


def _trim_prefill(turn: Block) -> None:
    """An answer that the model goes on with may not end with white space."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()
