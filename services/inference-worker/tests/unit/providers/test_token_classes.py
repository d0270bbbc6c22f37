"""What providers report, by class of tokens, and what it costs at the prices of their models, to the nano-dollar.

Where a row has a bill of the provider, or of the users who reported a wrong one, the amount is that of the bill.
"""

from typing import Any, NamedTuple

import pytest
from inference_worker.providers.anthropic.events import message_usage, to_openai_usage
from inference_worker.providers.reported_usage import openai_usage, read_usage, shown_usage
from values.money import ClassPrices, NanoUsd, Price, class_costs, cost
from values.usage import TokenDetails, TokenUsage

Usage = dict[str, Any]


class Row(NamedTuple):
    """A usage, what it is by class, and its cost at a price."""

    name: str
    usage: Usage
    counts: tuple[int, int]
    details: TokenDetails | None
    price: Price
    nano_usd: int


def price(read: float, written: float, **classes: float) -> Price:
    """US dollars per million tokens."""
    own = ClassPrices(**{name: NanoUsd(round(usd * 10**9)) for name, usd in classes.items()})
    return Price("a/b", "prc_1", NanoUsd(round(read * 10**9)), NanoUsd(round(written * 10**9)), own)


GPT_4O = price(2.5, 10, cached_input=1.25)
GPT_5 = price(1.25, 10, cached_input=0.125)
AUDIO = price(2.5, 10, audio_input=40, audio_output=80)
SONNET = price(3, 15, cached_input=0.3, cache_write=3.75, cache_write_1h=6)
OPUS = price(5, 25, cached_input=0.5, cache_write=6.25, cache_write_1h=10)
HAIKU = price(0.8, 4, cached_input=0.08, cache_write=1)
GEMINI_PRO = price(1.25, 10, cached_input=0.625)
GEMINI_FLASH = price(0.3, 2.5, cached_input=0.075, audio_input=1)
GROK = price(1.25, 2.5, cached_input=0.2)
DEEPSEEK = price(0.28, 0.42, cached_input=0.028)
QWEN = price(0.4, 1.2, cached_input=0.04, cache_write=0.5, reasoning_output=4)

# fmt: off
ROWS = [
    Row("openai: cached tokens are within the prompt", {
        "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920}, "completion_tokens_details": {"reasoning_tokens": 0},
    }, (2006, 300), TokenDetails(cached_input=1920), GPT_4O, 5_615_000),
    Row("openai: reasoning is within the completion, and has the price of output", {
        "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 0, "rejected_prediction_tokens": 3},
    }, (2006, 300), TokenDetails(cached_input=1920, reasoning_output=192), GPT_5, 107_500 + 240_000 + 3_000_000),
    Row("openai: sound that is heard and spoken", {
        "prompt_tokens": 110, "completion_tokens": 60, "total_tokens": 170,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 100, "text_tokens": 10, "image_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 50, "text_tokens": 10},
    }, (110, 60), TokenDetails(audio_input=100, audio_output=50), AUDIO, 25_000 + 4_000_000 + 100_000 + 4_000_000),
    Row("openai: sound that came from the cache is no sound as well", {
        "prompt_tokens": 110, "completion_tokens": 10, "total_tokens": 120,
        "prompt_tokens_details": {
            "cached_tokens": 70, "audio_tokens": 100, "cached_tokens_details": {"audio_tokens": 64, "text_tokens": 6},
        },
    }, (110, 10), TokenDetails(cached_input=70, audio_input=36), price(2.5, 10, cached_input=1, audio_input=40),
        70_000 + 1_440_000 + 10_000 + 100_000),
    Row("azure: details that are null", {
        "prompt_tokens": 18, "completion_tokens": 9, "total_tokens": 27,
        "prompt_tokens_details": None, "completion_tokens_details": None,
    }, (18, 9), None, GPT_4O, 45_000 + 90_000),
    Row("the responses api", {
        "input_tokens": 117231, "output_tokens": 225, "total_tokens": 117456,
        "input_tokens_details": {"cached_tokens": 115584}, "output_tokens_details": {"reasoning_tokens": 64},
    }, (117231, 225), TokenDetails(cached_input=115584, reasoning_output=64), GPT_5,
        2_058_750 + 14_448_000 + 2_250_000),
    Row("gemini: cached tokens stand within the text tokens", {
        "prompt_tokens": 262960, "completion_tokens": 1744, "total_tokens": 264704,
        "prompt_tokens_details": {"text_tokens": 262960, "cached_tokens": 257955},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }, (262960, 1744), TokenDetails(cached_input=257955), GEMINI_PRO, 184_918_125),
    Row("gemini: thoughts in the total only, with a detail that says none", {
        "prompt_tokens": 9, "completion_tokens": 664, "total_tokens": 1994, "prompt_tokens_details": {},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
    }, (9, 1985), TokenDetails(reasoning_output=1321), price(1.25, 10, reasoning_output=3.5),
        11_250 + 6_640_000 + 4_623_500),
    Row("gemini: sound is dearer than text", {
        "prompt_tokens": 1040, "completion_tokens": 20, "total_tokens": 1060,
        "prompt_tokens_details": {"audio_tokens": 1000, "text_tokens": 40},
    }, (1040, 20), TokenDetails(audio_input=1000), GEMINI_FLASH, 12_000 + 1_000_000 + 50_000),
    Row("xai: reasoning beside the completion, to the amount that xai states", {
        "prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
        "prompt_tokens_details": {"cached_tokens": 128}, "completion_tokens_details": {"reasoning_tokens": 2809},
        "cost_in_usd_ticks": 232856000,
    }, (10120, 4308), TokenDetails(cached_input=128, reasoning_output=2809), GROK, 23_285_600),
    Row("xai: where the total leaves no room, reasoning is within", {
        "prompt_tokens": 500, "completion_tokens": 500, "total_tokens": 1000,
        "completion_tokens_details": {"reasoning_tokens": 200},
    }, (500, 500), TokenDetails(reasoning_output=200), GROK, 625_000 + 1_250_000),
    Row("xai: text tokens include the cached ones", {
        "prompt_tokens": 616, "completion_tokens": 5, "total_tokens": 621,
        "prompt_tokens_details": {"text_tokens": 616, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 615},
    }, (616, 5), TokenDetails(cached_input=615), GROK, 1_250 + 123_000 + 12_500),
    Row("deepseek: what hit the cache has its own name", {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36,
        "completion_tokens_details": {"reasoning_tokens": 12},
    }, (100, 20), TokenDetails(cached_input=64, reasoning_output=12), DEEPSEEK, 10_080 + 1_792 + 8_400),
    Row("openrouter: cached and written within the prompt", {
        "prompt_tokens": 17903, "completion_tokens": 2, "total_tokens": 17905, "cost": 0.95,
        "prompt_tokens_details": {"cached_tokens": 17817, "cache_write_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0},
    }, (17903, 2), TokenDetails(cached_input=17817, cache_write=50), SONNET, 36 * 3_000 + 5_345_100 + 187_500 + 30_000),
    Row("moonshot, together: cached tokens on top", {
        "prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10,
    }, (19, 21), TokenDetails(cached_input=10), DEEPSEEK, 2_520 + 280 + 8_820),
    Row("perplexity: reasoning on top, and beside", {
        "prompt_tokens": 33, "completion_tokens": 7, "total_tokens": 40, "reasoning_tokens": 700, "citation_tokens": 9,
    }, (33, 707), TokenDetails(reasoning_output=700), price(2, 8, reasoning_output=3), 66_000 + 56_000 + 2_100_000),
    Row("qwen: writes among the details, and reasoning dearer than text", {
        "prompt_tokens": 3019, "completion_tokens": 104, "total_tokens": 3123,
        "prompt_tokens_details": {
            "cached_tokens": 0, "cache_creation_input_tokens": 2048, "cache_type": "ephemeral",
            "cache_creation": {"ephemeral_5m_input_tokens": 2048},
        },
        "completion_tokens_details": {"reasoning_tokens": 50},
    }, (3019, 104), TokenDetails(cache_write=2048, reasoning_output=50), QWEN, 388_400 + 1_024_000 + 64_800 + 200_000),
    Row("litellm: writes for an hour", {
        "prompt_tokens": 4818, "completion_tokens": 47, "total_tokens": 4865,
        "prompt_tokens_details": {
            "cached_tokens": 0, "text_tokens": 15, "cache_creation_tokens": 4803,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 4803},
        },
        "cache_creation_input_tokens": 4803, "cache_read_input_tokens": 0,
    }, (4818, 47), TokenDetails(cache_write_1h=4803), SONNET, 45_000 + 28_818_000 + 705_000),
    Row("litellm: reads on top, and none among the details of a stream", {
        "prompt_tokens": 2459, "completion_tokens": 23, "total_tokens": 2482,
        "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 0},
        "cache_read_input_tokens": 2455, "cache_creation_input_tokens": 0,
    }, (2459, 23), TokenDetails(cached_input=2455), HAIKU, 291_600),
    Row("litellm: reads and writes in one call", {
        "prompt_tokens": 98805, "completion_tokens": 5120, "total_tokens": 103925,
        "prompt_tokens_details": {"text_tokens": None, "cached_tokens": 66360, "cache_creation_tokens": 32435},
        "completion_tokens_details": {"reasoning_tokens": 1710},
        "cache_read_input_tokens": 66360, "cache_creation_input_tokens": 32435,
    }, (98805, 5120), TokenDetails(cached_input=66360, cache_write=32435, reasoning_output=1710), OPUS, 363_948_750),
    Row("a proxy of anthropic: reads and writes beside the prompt", {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1315,
        "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 300,
    }, (1310, 5), TokenDetails(cached_input=300, cache_write=1000), SONNET, 30_000 + 90_000 + 3_750_000 + 75_000),
    Row("more details than tokens are cut, the cached ones last", {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 8},
        "completion_tokens_details": {"audio_tokens": 9},
    }, (10, 5), TokenDetails(cached_input=8, audio_input=2, audio_output=5), AUDIO, 20_000 + 80_000 + 400_000),
    Row("details that are no counts are none", {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": -1, "audio_tokens": True, "image_tokens": "3"},
        "completion_tokens_details": [],
    }, (10, 5), None, AUDIO, 25_000 + 50_000),
]

ANTHROPIC = [
    Row("what the console bills for a write", {
        "input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "output_tokens": 550,
    }, (12307, 550), TokenDetails(cache_write=12304), SONNET, 54_399_000),
    Row("a read and a write", {
        "input_tokens": 5, "cache_read_input_tokens": 128955, "cache_creation_input_tokens": 1253, "output_tokens": 10,
    }, (130213, 10), TokenDetails(cached_input=128955, cache_write=1253), SONNET,
        15_000 + 38_686_500 + 4_698_750 + 150_000),
    Row("writes for five minutes and for an hour", {
        "input_tokens": 0, "cache_creation_input_tokens": 1_000_000, "cache_read_input_tokens": 0, "output_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 600_000, "ephemeral_1h_input_tokens": 400_000},
    }, (1_000_000, 0), TokenDetails(cache_write=600_000, cache_write_1h=400_000), OPUS, 7_750_000_000),
    Row("writes of which no time is said are those for five minutes", {
        "input_tokens": 0, "cache_creation_input_tokens": 1_000_000, "cache_read_input_tokens": 0, "output_tokens": 0,
    }, (1_000_000, 0), TokenDetails(cache_write=1_000_000), OPUS, 6_250_000_000),
    Row("no cache", {"input_tokens": 12, "output_tokens": 7}, (12, 7), None, SONNET, 36_000 + 105_000),
]
# fmt: on


def bill(usage: TokenUsage | None, at: Price) -> int:
    assert usage is not None
    assert usage.known is not None
    total = cost(*usage.known, at, usage.details)
    assert sum(one.cost for one in class_costs(usage, at, total)) == total
    assert sum(one.tokens for one in class_costs(usage, at, total)) == sum(usage.known)
    return total


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_token_is_of_one_class_and_is_billed_at_its_price(row: Row):
    usage = openai_usage({"usage": row.usage})

    assert usage is not None
    assert (usage.known, usage.details) == (row.counts, row.details)
    assert bill(usage, row.price) == row.nano_usd


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_client_is_shown_the_classes_that_are_billed(row: Row):
    shown = shown_usage({"usage": row.usage})

    assert read_usage({"usage": row.usage}) == (openai_usage({"usage": row.usage}), shown)
    agrees(shown, row)
    # Who bills by what is shown, bills the same.
    assert bill(openai_usage({"usage": shown}), row.price) == row.nano_usd


@pytest.mark.parametrize("row", ANTHROPIC, ids=[row.name for row in ANTHROPIC])
def test_anthropics_cache_is_billed_by_class_and_shown_in_both_shapes(row: Row):
    usage = message_usage(row.usage)

    assert usage is not None
    assert (usage.known, usage.details) == (row.counts, row.details)
    assert bill(usage, row.price) == row.nano_usd
    shown = to_openai_usage(row.usage)
    agrees(shown, row)
    if row.details is not None:
        assert shown.get("cache_read_input_tokens", 0) == row.details.cached_input
        assert shown.get("cache_creation_input_tokens", 0) == row.details.cache_write + row.details.cache_write_1h
    assert bill(openai_usage({"usage": shown}), row.price) == row.nano_usd


def agrees(shown: Usage, row: Row) -> None:
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == row.counts
    assert shown["total_tokens"] == sum(row.counts)
    if row.details is None:
        return
    prompt, completion = shown.get("prompt_tokens_details") or {}, shown.get("completion_tokens_details") or {}
    assert prompt.get("cached_tokens", 0) == row.details.cached_input
    assert prompt.get("cache_write_tokens", 0) == row.details.cache_write + row.details.cache_write_1h
    # As OpenAI has it: those of its sound that were cached are in both numbers.
    cached_sound = prompt.get("cached_tokens_details", {}).get("audio_tokens", 0)
    assert prompt.get("audio_tokens", 0) == row.details.audio_input + cached_sound
    assert completion.get("reasoning_tokens", 0) == row.details.reasoning_output
    assert completion.get("audio_tokens", 0) == row.details.audio_output
