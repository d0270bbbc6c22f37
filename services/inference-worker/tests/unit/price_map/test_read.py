"""Prices of litellm's map are exact, and never below what a provider charges."""

from decimal import Decimal
from typing import Any

import pytest
from inference_worker.price_map.read import load_price_map, seed_prices

CHAT = {"litellm_provider": "openai", "mode": "chat"}


def entry(read: str | None, written: str | None, **fields: Any) -> dict[str, Any]:
    amounts = {"input_cost_per_token": read, "output_cost_per_token": written}
    return {**CHAT, **{name: Decimal(value) for name, value in amounts.items() if value is not None}, **fields}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (entry("1.25e-06", "1e-05"), ("1.25", "10")),
        (entry("0", "0"), ("0", "0")),
        (entry("1.5e-07", "0.0000006"), ("0.15", "0.6")),
        # Finer than a nano-dollar: rounded up.
        (entry("1.0000000000000001e-06", "1e-06"), ("1.000000001", "1")),
        (entry("1e-06", "2e-06", input_cost_per_token_above_200k_tokens=Decimal("2e-06")), ("2", "2")),
    ],
)
def test_prices_are_exact_and_the_highest(made: dict[str, Any], expected: tuple[str, str]) -> None:
    assert seed_prices({"gpt": made}, "openai", "ours").prices == {"ours/gpt": (*expected, {})}


CACHE = {"cache_creation_input_token_cost": Decimal("3.75e-06"), "cache_read_input_token_cost": Decimal("3e-07")}
HOUR = {"cache_creation_input_token_cost_above_1hr": Decimal("6e-06")}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (CACHE | HOUR, {"cached_input": "0.3", "cache_write": "3.75", "cache_write_1h": "6"}),
        # An hour is no length of the input.
        (CACHE, {"cached_input": "0.3", "cache_write": "3.75"}),
        ({"cache_creation_input_token_cost_above_200k_tokens": Decimal("7.5e-06")} | CACHE | HOUR, {
            "cached_input": "0.3", "cache_write": "7.5", "cache_write_1h": "6",
        }),
        ({"input_cost_per_audio_token": Decimal("4e-05"), "output_cost_per_audio_token": Decimal("8e-05")}, {
            "audio_input": "40", "audio_output": "80",
        }),
        ({"output_cost_per_reasoning_token": Decimal("4e-05"), "input_cost_per_image_token": Decimal("5e-06")}, {
            "image_input": "5", "reasoning_output": "40",
        }),
        # What a class falls back to is not said again.
        ({"output_cost_per_reasoning_token": Decimal("1.5e-05"), "input_cost_per_image_token": Decimal("3e-06")}, {}),
        # The map writes zero where a provider has no writes; what is read for nothing is read for nothing.
        ({"cache_creation_input_token_cost": Decimal(0), "cache_read_input_token_cost": Decimal(0)}, {
            "cached_input": "0",
        }),
    ],
)  # fmt: skip
def test_classes_of_tokens_have_prices_of_their_own(fields: dict[str, Any], expected: dict[str, str]) -> None:
    seed = seed_prices({"gpt": entry("3e-06", "1.5e-05", **fields)}, "openai", "ours")

    assert seed.prices["ours/gpt"] == ("3", "15", expected)


@pytest.mark.parametrize(
    "made",
    [
        entry("1e-06", "1e-06", litellm_provider="azure"),
        entry("1e-06", "1e-06", mode="image_generation"),
        entry(None, "1e-06"),
        entry("1e-06", None),
        "sample",
    ],
)
def test_what_is_not_priced_by_tokens_is_left_out(made: Any) -> None:
    assert seed_prices({"gpt": made}, "openai", "ours").prices == {}


def test_an_embedding_costs_nothing_to_write() -> None:
    seed = seed_prices({"e": entry("2e-08", None, mode="embedding")}, "openai", "openai")

    assert seed.prices == {"openai/e": ("0.02", "0", {})}


def test_the_providers_prefix_is_left_out_and_what_is_missing_is_named() -> None:
    seed = seed_prices({"openai/gpt": entry("1e-06", "1e-06")}, "openai", "openai", ["gpt", "unknown"])

    assert list(seed.prices) == ["openai/gpt"]
    assert seed.notes == ("unknown: not in the price map",)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_the_package_of_litellm_has_prices_of_the_large_providers(provider: str) -> None:
    seed = seed_prices(load_price_map(), provider, provider)

    assert len(seed.prices) >= 10
    assert any("cached_input" in classes for *_, classes in seed.prices.values())
    assert all(Decimal(read) >= 0 and Decimal(written) >= 0 for read, written, _ in seed.prices.values())
