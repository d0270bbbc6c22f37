"""Token counters, and the prompt that they count.

Bodies and payloads are OpenAI's. They are parsed only when a provider did not report its usage. What cannot be counted
whole is not counted at all: a part of it would be billed as if it were everything.
"""

# Not orjson: it rejects the halves of surrogate pairs, into which some providers split an emoji.
import json  # noqa: TID251 - see above
from collections.abc import Sequence
from typing import Any, Protocol

from inference_worker.token_counting.messages import Uncountable, message_texts, parse_object

MESSAGE_OVERHEAD_TOKENS = 3
"""Tokens that chat templates put around each message, and before the output."""

SCHEMA_FIELDS = ("tools", "functions", "response_format", "documents")
"""Fields of a body, besides the messages, that the model reads as JSON."""

REASONING_FIELDS = ("reasoning_effort", "reasoning", "thinking", "max_completion_tokens")
"""Fields that a reasoning model takes: `max_completion_tokens` is the only output limit that OpenAI's accept."""


class TokenCounter(Protocol):
    """Counts tokens when a provider does not report them."""

    async def count(self, texts: Sequence[str]) -> int | None:
        """Return the tokens of all texts together; None when the tokenizer is unknown or fails."""


class NullTokenCounter:
    """The counter of an upstream whose tokenizer is unknown."""

    async def count(self, texts: Sequence[str]) -> int | None:  # noqa: ARG002 - part of the port
        return None


async def count_prompt(body: bytes, counter: TokenCounter) -> int | None:
    """Return the prompt tokens of a chat body; None when they cannot be counted whole."""
    try:
        texts, messages = prompt_texts(body)
    except Uncountable:
        return None
    counted = await counter.count(texts)
    return None if counted is None else counted + MESSAGE_OVERHEAD_TOKENS * (1 + messages)


def prompt_texts(body: bytes) -> tuple[list[str], int]:
    """Return the texts that the model reads, and how many messages they are in. Raises `Uncountable`."""
    parsed = parse_object(body)
    messages = parsed.get("messages")
    if not isinstance(messages, list):
        raise Uncountable("the messages are not a list")
    if parsed.get("prediction"):
        # Tokens of it that the model did not use cost as much as written ones, and only the provider knows them.
        raise Uncountable("the body predicts the output")
    texts: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("audio"):
            raise Uncountable("a message is not text")
        texts += [text for _, text in message_texts(message)]
    texts += [_render(parsed[name]) for name in SCHEMA_FIELDS if parsed.get(name)]
    return texts, len(messages)


def may_hide_reasoning(body: bytes) -> bool:
    """Tell whether the model may write reasoning that it does not show, and that costs as much as its answer."""
    try:
        parsed = parse_object(body)
    except Uncountable:
        return True
    return any(parsed.get(name) not in (None, False, "none") for name in REASONING_FIELDS)


def _render(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
