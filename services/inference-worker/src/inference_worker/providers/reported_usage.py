"""What a provider with OpenAI's API reports of the tokens that it used, in whichever of the known ways.

OpenAI's own counts hold each other: `completion_tokens` includes reasoning, `prompt_tokens` what came from a cache.
Other providers put some of these beside the two, and add them up in `total_tokens` only: Gemini and xAI the reasoning,
providers in front of Anthropic's models the reads and writes of its cache. What was used is all of it, once.
"""

from collections.abc import Iterator
from typing import Any

from values.usage import TokenUsage, UsageSource

from inference_worker.providers.token_details import (
    CACHE_CREATION,
    CACHE_READ,
    OUTPUT_DETAILS,
    PROMPT_DETAILS,
    details_of,
    is_token_count,
    shown_details,
)

CACHE_COUNTS = (CACHE_READ, CACHE_CREATION)
"""Anthropic's names. Its input tokens do not include them, and of providers between it and us some do."""

CACHE_DETAILS = ("cached_tokens", "cache_write_tokens")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def openai_usage(response: dict[str, Any]) -> TokenUsage | None:
    """Return the usage in a completion or a chunk of one; None unless the counts of prompt and output are there."""
    for usage in _usages(response):
        counted = _counted(usage)
        if counted is not None:
            return counted
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
    counted = _counted(usage)
    return usage if counted is None else _with_counts(usage, counted)


def read_usage(response: dict[str, Any]) -> tuple[TokenUsage | None, dict[str, Any]]:
    """Return `openai_usage` and `shown_usage`; the counts of a usage at OpenAI's place are read once for both."""
    usage: Any = response.get("usage")
    counted = _counted(usage) if isinstance(usage, dict) and usage else None
    if counted is None or not isinstance(usage, dict):
        return openai_usage(response), shown_usage(response)
    return counted, _with_counts(usage, counted)


def plain_usage(usage: object) -> TokenUsage | None:
    """Return a usage that is shown and billed as it is: three counts that agree, and nothing else; None for others."""
    if not isinstance(usage, dict) or len(usage) != len(_COUNTS):
        return None
    prompt, completion, total = map(usage.get, _COUNTS)
    if not (is_token_count(prompt) and is_token_count(completion) and total == prompt + completion):
        return None
    return TokenUsage(UsageSource.REPORTED, prompt, completion)


def _with_counts(usage: dict[str, Any], counted: TokenUsage) -> dict[str, Any]:
    input_tokens, output_tokens = counted.known or (0, 0)
    shown = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return usage | shown if counted.details is None else usage | shown | shown_details(usage, counted.details)


def _usages(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the usage of a response: OpenAI's place first, then Groq's, then Moonshot's within a choice."""
    group = response.get("x_groq")
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (response, group, choice):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict) and usage:
            yield usage


def _counted(usage: dict[str, Any]) -> TokenUsage | None:
    """Return all tokens read and all tokens written; None unless both are there and plausible."""
    input_tokens = _first(usage, "prompt_tokens", "input_tokens")
    output_tokens = _first(usage, "completion_tokens", "output_tokens")
    if output_tokens is None and is_token_count(usage.get("total_tokens")):
        output_tokens = 0
    if input_tokens is None or output_tokens is None:
        return None
    reasoning = _detail(usage, OUTPUT_DETAILS, "reasoning_tokens")
    beside, unnamed = _total_excess(usage, input_tokens + output_tokens), 0
    if beside:
        cached = _cached_beside(usage, beside)
        input_tokens, output_tokens = input_tokens + cached, output_tokens + beside - cached
        # Gemini's thoughts have no name of their own.
        unnamed = 0 if reasoning else beside - cached
    else:
        if reasoning > output_tokens:
            output_tokens += reasoning
        cached = _count(usage.get(CACHE_READ)) + _count(usage.get(CACHE_CREATION))
        own_shape = "prompt_tokens" not in usage and "total_tokens" not in usage
        if own_shape or cached > input_tokens:
            # Anthropic's own shape; or its input tokens under OpenAI's name: no part is more than the prompt.
            input_tokens += cached
    if not (is_token_count(input_tokens) and is_token_count(output_tokens)):
        return None
    details = details_of(usage, input_tokens, output_tokens, unnamed)
    return TokenUsage(UsageSource.REPORTED, input_tokens, output_tokens, details)


def _total_excess(usage: dict[str, Any], known: int) -> int:
    total = usage.get("total_tokens")
    return max(0, total - known) if is_token_count(total) else 0


def _cached_beside(usage: dict[str, Any], beside: int) -> int:
    """Return how many of the tokens beside the two counts belong to the prompt: those of a cache, if they fit."""
    anthropic = [_count(usage.get(name)) for name in CACHE_COUNTS]
    details = [_detail(usage, PROMPT_DETAILS, name) for name in CACHE_DETAILS]
    reasoning = _detail(usage, OUTPUT_DETAILS, "reasoning_tokens")
    if beside == reasoning:
        return 0
    for tokens in (sum(anthropic), *anthropic, sum(details), *details):
        if tokens and beside in (tokens, tokens + reasoning):
            return tokens
    return 0


def _first(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if is_token_count(value):
            return value
    return None


def _detail(usage: dict[str, Any], holders: tuple[str, ...], name: str) -> int:
    for holder in holders:
        details = usage.get(holder)
        if isinstance(details, dict) and is_token_count(details.get(name)):
            return _count(details[name])
    return _count(usage.get(name))


def _count(value: object) -> int:
    return value if is_token_count(value) else 0
