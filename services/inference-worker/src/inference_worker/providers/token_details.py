"""Which of the tokens that a provider reports are of other classes than text, by the fields that each documents.

- OpenAI, Azure, xAI, Groq, Mistral, vLLM: `prompt_tokens_details` and `completion_tokens_details`, in the Responses API
  `input_tokens_details` and `output_tokens_details`. Of its Realtime API `cached_tokens_details` says what is cached.
- OpenRouter: `cache_write_tokens` among them; litellm: `cache_creation_tokens`; Qwen: `cache_creation_input_tokens`.
- Anthropic, and proxies of it: `cache_read_input_tokens`, `cache_creation_input_tokens`, and by time to live
  `cache_creation.ephemeral_5m_input_tokens` and `.ephemeral_1h_input_tokens`; litellm calls that
  `cache_creation_token_details`.
- DeepSeek: `prompt_cache_hit_tokens`; Moonshot, Together: `cached_tokens`; Perplexity: `reasoning_tokens` on top.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from values.money import MAX_TOKENS
from values.usage import TokenDetails

PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
CACHE_READ, CACHE_CREATION = "cache_read_input_tokens", "cache_creation_input_tokens"
"""Anthropic's names."""
HOUR = "ephemeral_1h_input_tokens"

_READS = (CACHE_READ, "cached_tokens", "prompt_cache_hit_tokens")
_WRITES = (CACHE_CREATION, "cache_write_tokens", "cache_creation_tokens")
_BY_TIME = ("cache_creation", "cache_creation_token_details")
_REASONING = ("reasoning_tokens",)
_NOTHING: dict[str, Any] = {}


def is_token_count(value: object) -> TypeGuard[int]:
    """Tell whether a reported count is plausible: JSON's true is an int in Python, and some upstreams send -1.

    Metering rejects the whole usage event of a request for one count above `MAX_TOKENS`.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


def details_of(
    usage: Mapping[str, Any], input_tokens: int, output_tokens: int, reasoning_beside: int
) -> TokenDetails | None:
    """Return the tokens that are not text, within the two counts; None when all are text.

    A number may stand at several places: it is one number. `reasoning_beside` are written tokens that only the total
    has, and that no detail names.
    """
    prompt, output = _holder(usage, PROMPT_DETAILS), _holder(usage, OUTPUT_DETAILS)
    # Most answers report zeros.
    if not (reasoning_beside or any(prompt.values()) or any(output.values())) and _ON_TOP.isdisjoint(usage):
        return None
    cached, writes = _largest(usage, prompt, _READS), _largest(usage, prompt, _WRITES)
    for_an_hour = _hour_writes(usage, prompt) if writes else 0
    cached_by_kind = _object(prompt, "cached_tokens_details")
    return TokenDetails(
        cached,
        max(0, writes - for_an_hour),
        for_an_hour,
        _beyond(prompt, cached_by_kind, "audio_tokens"),
        _beyond(prompt, cached_by_kind, "image_tokens"),
        max(_largest(usage, output, _REASONING), reasoning_beside),
        _count(output.get("audio_tokens")),
    ).within(input_tokens, output_tokens)


def shown_details(usage: Mapping[str, Any], details: TokenDetails) -> dict[str, Any]:
    """Return the fields of a usage that name tokens by class, with those that are billed; others stay as they are."""
    prompt, output = _holder(usage, PROMPT_DETAILS), _holder(usage, OUTPUT_DETAILS)
    cached, writes = details.cached_input, details.cache_write + details.cache_write_1h
    shown: dict[str, Any] = {}
    read = {"cached_tokens": cached, "cache_write_tokens": writes}
    # Where it is said what is cached, the kinds include it.
    kinds = _object(prompt, "cached_tokens_details")
    read["audio_tokens"] = details.audio_input + _count(kinds.get("audio_tokens"))
    read["image_tokens"] = details.image_input + _count(kinds.get("image_tokens"))
    if any(read.values()) or prompt:
        shown["prompt_tokens_details"] = _merged(prompt, read)
    written = {"reasoning_tokens": details.reasoning_output, "audio_tokens": details.audio_output}
    if any(written.values()) or output:
        shown["completion_tokens_details"] = _merged(output, written)
    if CACHE_READ in usage:
        shown[CACHE_READ] = cached
    if CACHE_CREATION in usage:
        shown[CACHE_CREATION] = writes
    return shown


_ON_TOP = frozenset({*_READS, *_WRITES, *_BY_TIME, "reasoning_tokens"})


def _merged(reported: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """Put counts into details; one that is zero only where the provider has it, too."""
    return {**reported, **{name: tokens for name, tokens in counts.items() if tokens or name in reported}}


def _holder(usage: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    for name in names:
        value = usage.get(name)
        if isinstance(value, dict) and value:
            return value
    return _NOTHING


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _holder(holder, (name,))


def _hour_writes(usage: Mapping[str, Any], prompt: Mapping[str, Any]) -> int:
    return max(_count(_object(holder, name).get(HOUR)) for holder in (usage, prompt) for name in _BY_TIME)


def _largest(usage: Mapping[str, Any], holder: Mapping[str, Any], names: Iterable[str]) -> int:
    largest = 0
    for name in names:
        for value in (usage.get(name), holder.get(name)):
            if value and is_token_count(value) and value > largest:
                largest = value
    return largest


def _beyond(prompt: Mapping[str, Any], cached: Mapping[str, Any], name: str) -> int:
    """Return the tokens of a kind that did not come from the cache."""
    return max(0, _count(prompt.get(name)) - _count(cached.get(name)))


def _count(value: object) -> int:
    return value if is_token_count(value) else 0
