"""What each provider with OpenAI's API documents of its usage, and what of it is billed."""

from typing import Any

import pytest
from inference_worker.providers.reported_usage import openai_usage, read_usage, shown_usage
from values.usage import TokenUsage, UsageSource

# fmt: off
VECTORS: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("openai: reasoning, audio and cache are within the two counts", {
        "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 5, "rejected_prediction_tokens": 3},
    }, (2006, 300)),
    ("azure: as openai, with nulls", {
        "prompt_tokens": 18, "completion_tokens": 9, "total_tokens": 27,
        "prompt_tokens_details": None, "completion_tokens_details": None,
    }, (18, 9)),
    ("a proxy: Anthropic's input tokens under OpenAI's name, its cache beside them and not in the total", {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 5000,
    }, (5100, 10)),
    ("gemini: thoughts are in the total only", {
        "prompt_tokens": 5, "completion_tokens": 90, "total_tokens": 614,
    }, (5, 609)),
    ("gemini: nothing but thoughts", {
        "prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81,
        "completion_tokens_details": {"reasoning_tokens": 60},
    }, (21, 60)),
    ("gemini: no completion tokens at all, because the limit ended its thoughts", {
        "prompt_tokens": 21, "total_tokens": 81,
    }, (21, 60)),
    ("xai: reasoning stands beside", {
        "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
        "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 94},
    }, (32, 103)),
    ("xai: reasoning that equals the cached tokens is still written", {
        "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 47,
        "prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": {"reasoning_tokens": 6},
    }, (32, 15)),
    ("deepseek: the prompt is what hit the cache and what did not", {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 64,
        "prompt_cache_miss_tokens": 36, "completion_tokens_details": {"reasoning_tokens": 12},
    }, (100, 20)),
    ("openrouter: with its price and cache writes within", {
        "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.95, "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 0}, "cost_details": {"upstream_inference_cost": 0.9},
    }, (194, 2)),
    ("a proxy of anthropic: cache writes stand beside the prompt", {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1015,
        "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 0,
    }, (1010, 5)),
    ("a proxy of anthropic: cache reads and reasoning stand beside", {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1045, "cache_read_input_tokens": 1000,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }, (1010, 35)),
    ("a proxy of anthropic: they are within the prompt already", {
        "prompt_tokens": 1010, "completion_tokens": 5, "total_tokens": 1015,
        "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 0,
    }, (1010, 5)),
    ("anthropic's own names", {
        "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 3,
    }, (20, 5)),
    ("responses-shaped names", {
        "input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_details": {"cached_tokens": 8},
        "output_tokens_details": {"reasoning_tokens": 4},
    }, (10, 5)),
    ("perplexity: reasoning beside, and not in the total", {
        "prompt_tokens": 33, "completion_tokens": 7, "total_tokens": 40, "reasoning_tokens": 700, "citation_tokens": 9,
    }, (33, 707)),
    ("moonshot: cached tokens on top", {
        "prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10,
    }, (19, 21)),
    ("vllm: details that are null", {
        "prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": None,
    }, (7, 5)),
    ("llama.cpp: no total", {"prompt_tokens": 7, "completion_tokens": 5}, (7, 5)),
    ("a total below the sum is not believed", {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 5}, (7, 5)),
    ("a total that is no count is not believed", {
        "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": "12",
    }, (7, 5)),
]
# fmt: on


@pytest.mark.parametrize(("usage", "counts"), [case[1:] for case in VECTORS], ids=[case[0] for case in VECTORS])
def test_every_token_is_billed_once_and_shown_as_it_is_billed(usage: dict[str, Any], counts: tuple[int, int]):
    response = {"usage": usage}

    counted = openai_usage(response)
    assert counted is not None
    assert counted._replace(details=None) == TokenUsage(UsageSource.REPORTED, *counts)
    shown = shown_usage(response)
    assert read_usage(response) == (openai_usage(response), shown)
    assert (shown["prompt_tokens"], shown["completion_tokens"], shown["total_tokens"]) == (*counts, sum(counts))
    details = {name: value for name, value in usage.items() if name.endswith("_details") and value}
    # Classes may be added to what the provider says, and none of it changes.
    assert {name: shown[name] | details[name] for name in details} == {name: shown[name] for name in details}


@pytest.mark.parametrize(
    "usage",
    [{}, None, [], {"prompt_tokens": 7}, {"completion_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": 5}],
)
def test_a_usage_that_lacks_a_count_is_none(usage: Any):
    assert openai_usage({"usage": usage}) is None
    # One at another place counts in its stead.
    response = {"usage": usage, "x_groq": {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}}
    assert read_usage(response)[0] == TokenUsage(UsageSource.REPORTED, 7, 5)
