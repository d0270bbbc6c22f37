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
    assert seed_prices({"gpt": made}, "openai", "ours").prices == {"ours/gpt": expected}


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

    assert seed.prices == {"openai/e": ("0.02", "0")}


def test_the_providers_prefix_is_left_out_and_what_is_missing_is_named() -> None:
    seed = seed_prices({"openai/gpt": entry("1e-06", "1e-06")}, "openai", "openai", ["gpt", "unknown"])

    assert list(seed.prices) == ["openai/gpt"]
    assert seed.notes == ("unknown: not in the price map",)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_the_package_of_litellm_has_prices_of_the_large_providers(provider: str) -> None:
    seed = seed_prices(load_price_map(), provider, provider)

    assert len(seed.prices) >= 10
    assert all(Decimal(read) >= 0 and Decimal(written) >= 0 for read, written in seed.prices.values())
