"""What a provider with OpenAI's API reports of the tokens that it used, in whichever of the known ways.

OpenAI's own counts hold each other: `completion_tokens` includes reasoning, `prompt_tokens` what came from a cache.
Other providers put some of these beside the two, and add them up in `total_tokens` only: Gemini and xAI the reasoning,
providers in front of Anthropic's models the reads and writes of its cache. What was used is all of it, once.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

from values.money import MAX_TOKENS
from values.usage import TokenUsage, UsageSource

CACHE_COUNTS = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic's names. Its input tokens do not include them, and of providers between it and us some do."""

CACHE_DETAILS = ("cached_tokens", "cache_write_tokens")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")


def openai_usage(response: dict[str, Any]) -> TokenUsage | None:
    """Return the usage in a completion or a chunk of one; None unless the counts of prompt and output are there."""
    for usage in _usages(response):
        counts = _counts(usage)
        if counts is not None:
            return TokenUsage(UsageSource.REPORTED, *counts)
    return None


def reports_usage(response: dict[str, Any]) -> bool:
    """Tell whether there is a usage, of which at least one count is there."""
    return any(True for _ in _usages(response))


def without_usage(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response without what it says of its usage, at any of the known places."""
    kept = {name: value for name, value in response.items() if name != "usage"}
    group = kept.get("x_groq")
    if isinstance(group, dict) and "usage" in group:
        kept["x_groq"] = {name: value for name, value in group.items() if name != "usage"}
    if isinstance(kept.get("choices"), list):
        kept["choices"] = [
            {name: value for name, value in choice.items() if name != "usage"} if isinstance(choice, dict) else choice
            for choice in kept["choices"]
        ]
    return kept


def shown_usage(response: dict[str, Any]) -> dict[str, Any]:
    """Return the usage in OpenAI's shape, with the provider's details, and with the counts that are billed."""
    usage = next(_usages(response), {})
    counts = _counts(usage)
    return usage if counts is None else _with_counts(usage, *counts)


def read_usage(response: dict[str, Any]) -> tuple[TokenUsage | None, dict[str, Any]]:
    """Return `openai_usage` and `shown_usage`; the counts of a usage at OpenAI's place are read once for both."""
    usage: Any = response.get("usage")
    counts = _counts(usage) if isinstance(usage, dict) and usage else None
    if counts is None or not isinstance(usage, dict):
        return openai_usage(response), shown_usage(response)
    return TokenUsage(UsageSource.REPORTED, *counts), _with_counts(usage, *counts)


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def plain_counts(usage: object) -> tuple[int, int] | None:
    """Return the tokens read and written of a usage that is shown and billed as it is; None where others were used."""
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = map(usage.get, _COUNTS)
    if not (is_token_count(prompt) and is_token_count(completion) and total == prompt + completion):
        return None
    if len(usage) > len(_COUNTS) and _detail(usage, _OUTPUT_DETAILS, "reasoning_tokens") > completion:
        return None
    return prompt, completion


def _with_counts(usage: dict[str, Any], input_tokens: int, output_tokens: int) -> dict[str, Any]:
    shown = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return usage | shown


def is_token_count(value: object) -> TypeGuard[int]:
    """Tell whether a reported count is plausible: JSON's true is an int in Python, and some upstreams send -1.

    Metering rejects the whole usage event of a request for one count above `MAX_TOKENS`.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


def _usages(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the usage of a response: OpenAI's place first, then Groq's, then Moonshot's within a choice."""
    group = response.get("x_groq")
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (response, group, choice):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict) and usage:
            yield usage


def _counts(usage: dict[str, Any]) -> tuple[int, int] | None:
    """Return all tokens read and all tokens written; None unless both are there and plausible."""
    input_tokens = _first(usage, "prompt_tokens", "input_tokens")
    output_tokens = _first(usage, "completion_tokens", "output_tokens")
    if output_tokens is None and is_token_count(usage.get("total_tokens")):
        output_tokens = 0
    if input_tokens is None or output_tokens is None:
        return None
    reasoning = _detail(usage, _OUTPUT_DETAILS, "reasoning_tokens")
    beside = _total_excess(usage, input_tokens + output_tokens)
    if beside:
        cached = _cached_beside(usage, beside)
        input_tokens, output_tokens = input_tokens + cached, output_tokens + beside - cached
    else:
        if reasoning > output_tokens:
            output_tokens += reasoning
        if "prompt_tokens" not in usage and "total_tokens" not in usage:
            # Anthropic's own shape.
            input_tokens += sum(_count(usage.get(name)) for name in CACHE_COUNTS)
    counts = input_tokens, output_tokens
    return counts if all(map(is_token_count, counts)) else None


def _total_excess(usage: dict[str, Any], known: int) -> int:
    total = usage.get("total_tokens")
    return max(0, total - known) if is_token_count(total) else 0


def _cached_beside(usage: dict[str, Any], beside: int) -> int:
    """Return how many of the tokens beside the two counts belong to the prompt: those of a cache, if they fit."""
    anthropic = [_count(usage.get(name)) for name in CACHE_COUNTS]
    details = [_detail(usage, ("prompt_tokens_details", "input_tokens_details"), name) for name in CACHE_DETAILS]
    reasoning = _detail(usage, _OUTPUT_DETAILS, "reasoning_tokens")
    if beside == reasoning:
        return 0
    for tokens in (sum(anthropic), *anthropic, sum(details), *details):
        if tokens and beside in (tokens, tokens + reasoning):
            return tokens
    return 0


def _first(usage: dict[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if is_token_count(usage.get(name))), None)


def _detail(usage: dict[str, Any], holders: tuple[str, ...], name: str) -> int:
    for holder in (*(usage.get(holder) for holder in holders), usage):
        if isinstance(holder, dict) and is_token_count(holder.get(name)):
            return _count(holder[name])
    return 0


def _count(value: object) -> int:
    return value if is_token_count(value) else 0
