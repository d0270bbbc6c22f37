"""Reads litellm's price map without importing litellm, which takes seconds and 250 MB."""

import json  # noqa: TID251 - numbers are read as exact decimals, which orjson cannot
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from chassis.errors import ArgosyError, Kind

FILE: Final = "model_prices_and_context_window_backup.json"
MODES: Final = frozenset({"chat", "completion", "responses", "embedding"})
MILLION: Final = Decimal(1_000_000)
NANO: Final = Decimal("0.000000001")
INPUT, OUTPUT = "input_cost_per_token", "output_cost_per_token"
CLASSES: Final = {
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "audio_input": "input_cost_per_audio_token",
    "image_input": "input_cost_per_image_token",
    "reasoning_output": "output_cost_per_reasoning_token",
    "audio_output": "output_cost_per_audio_token",
}
"""Classes of tokens, and the map's names of their prices."""
WRITES: Final = ("cache_write", "cache_write_1h")
_THRESHOLD: Final = re.compile(r"_above_[0-9]+k_tokens")


class NoPriceMap(ArgosyError, public=False):
    """litellm is not installed, or its package has no price map any more."""

    kind, reason = Kind.INTERNAL, "NO_PRICE_MAP"


class SeedPrice(NamedTuple):
    """US dollars per million tokens: those of input and output, and those of classes that have another."""

    read: str
    written: str
    classes: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Seed:
    """Prices by price key, and what an operator should know of them."""

    prices: Mapping[str, SeedPrice]
    notes: tuple[str, ...]


def load_price_map() -> Mapping[str, Any]:
    """Raises `NoPriceMap`."""
    spec = find_spec("litellm")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / FILE
    if path is None or not path.is_file():
        raise NoPriceMap("litellm's package with its price map is not installed")
    loaded: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal)
    return loaded


def seed_prices(price_map: Mapping[str, Any], provider: str, upstream: str, models: Collection[str] = ()) -> Seed:
    """Return the prices of a provider's models for the upstream that serves them; `models` empty: all.

    A model whose price depends on the length of its input gets the highest: a price of ours has one amount. Models that
    cost something else than tokens, or whose price is not known, are left out.
    """
    prices: dict[str, SeedPrice] = {}
    notes: list[str] = []
    for name, entry in sorted(price_map.items()):
        if not isinstance(entry, dict) or entry.get("litellm_provider") != provider or entry.get("mode") not in MODES:
            continue
        model = name.removeprefix(f"{provider}/")
        if models and model not in models:
            continue
        amounts = [_highest(entry, field) for field in (INPUT, OUTPUT)]
        if amounts[0] is None or (amounts[1] is None and entry["mode"] != "embedding"):
            notes.append(f"{model}: its price per token is not known")
            continue
        if any(entry.get(field) != amount for field, amount in zip((INPUT, OUTPUT), amounts, strict=True) if amount):
            notes.append(f"{model}: the price depends on the input's length; this is the highest")
        read, written = _per_million(amounts[0]), _per_million(amounts[1] or Decimal(0))
        prices[f"{upstream}/{model}"] = SeedPrice(read, written, _classes(entry, read, written))
    notes += [f"{model}: not in the price map" for model in models if f"{upstream}/{model}" not in prices]
    return Seed(prices, tuple(dict.fromkeys(notes)))


def _highest(entry: Mapping[str, Any], field: str) -> Decimal | None:
    """The highest of `input_cost_per_token`, `input_cost_per_token_above_200k_tokens` and so on."""
    found = [
        value
        for name, value in entry.items()
        if (name == field or (name.startswith(field) and _THRESHOLD.fullmatch(name, len(field))))
        and isinstance(value, Decimal)
        and value >= 0
    ]
    return max(found, default=None)


def _classes(entry: Mapping[str, Any], read: str, written: str) -> dict[str, str]:
    """Prices of classes that are not those that the class falls back to.

    A write to the cache for nothing is one that the provider does not have: it would be sold for nothing.
    """
    fallbacks = dict.fromkeys(CLASSES, read) | {"reasoning_output": written, "audio_output": written}
    classes: dict[str, str] = {}
    for name, field in CLASSES.items():
        amount = _highest(entry, field)
        if amount is None or (name in WRITES and not amount):
            continue
        price = _per_million(amount)
        fallback = classes.get("cache_write", read) if name == "cache_write_1h" else fallbacks[name]
        if price != fallback:
            classes[name] = price
    return classes


def _per_million(amount: Decimal) -> str:
    """Rounded up to a nano-dollar, so that nothing is sold below its price."""
    exact = amount * MILLION
    rounded = exact.quantize(NANO)
    rounded = rounded if rounded >= exact else rounded + NANO
    return f"{rounded.normalize():f}"
