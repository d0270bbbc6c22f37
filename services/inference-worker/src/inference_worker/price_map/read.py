"""Reads litellm's price map without importing litellm, which takes seconds and 250 MB."""

import json  # noqa: TID251 - numbers are read as exact decimals, which orjson cannot
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from chassis.errors import ArgosyError, Kind

FILE: Final = "model_prices_and_context_window_backup.json"
MODES: Final = frozenset({"chat", "completion", "responses", "embedding"})
MILLION: Final = Decimal(1_000_000)
NANO: Final = Decimal("0.000000001")
INPUT, OUTPUT = "input_cost_per_token", "output_cost_per_token"


class NoPriceMap(ArgosyError, public=False):
    """litellm is not installed, or its package has no price map any more."""

    kind, reason = Kind.INTERNAL, "NO_PRICE_MAP"


@dataclass(frozen=True, slots=True)
class Seed:
    """Prices in US dollars per million tokens, by price key, and what an operator should know of them."""

    prices: Mapping[str, tuple[str, str]]
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
    prices: dict[str, tuple[str, str]] = {}
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
        prices[f"{upstream}/{model}"] = (_per_million(amounts[0]), _per_million(amounts[1] or Decimal(0)))
    notes += [f"{model}: not in the price map" for model in models if f"{upstream}/{model}" not in prices]
    return Seed(prices, tuple(dict.fromkeys(notes)))


def _highest(entry: Mapping[str, Any], field: str) -> Decimal | None:
    """The highest of `input_cost_per_token`, `input_cost_per_token_above_200k_tokens` and so on."""
    found = [
        value
        for name, value in entry.items()
        if (name == field or name.startswith(f"{field}_above_")) and isinstance(value, Decimal) and value >= 0
    ]
    return max(found, default=None)


def _per_million(amount: Decimal) -> str:
    """Rounded up to a nano-dollar, so that nothing is sold below its price."""
    exact = amount * MILLION
    rounded = exact.quantize(NANO)
    rounded = rounded if rounded >= exact else rounded + NANO
    return f"{rounded.normalize():f}"
