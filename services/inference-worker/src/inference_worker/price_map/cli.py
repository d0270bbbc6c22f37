"""`python -m inference_worker seed-prices`: a part of `argosy.yaml`, for `python -m gateway apply -`."""

import argparse
import sys
from typing import Final

import orjson

from inference_worker.price_map.read import load_price_map, seed_prices

HELP: Final = "print the prices of a provider's models, from litellm's price map, for `python -m gateway apply -`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help="litellm's name of it, such as openai, anthropic, gemini")
    parser.add_argument("models", nargs="*", help="only these; without any: all of the provider's")
    parser.add_argument("--upstream", help="the upstream that serves them; the provider's name by default")


async def run_seed_prices(arguments: argparse.Namespace) -> int:
    """Print JSON, which is YAML too; what should be known of it goes to the other stream."""
    seed = seed_prices(load_price_map(), arguments.provider, arguments.upstream or arguments.provider, arguments.models)
    prices = {
        key: {"input_per_million_usd": price.read, "output_per_million_usd": price.written}
        | ({"classes_per_million_usd": price.classes} if price.classes else {})
        for key, price in seed.prices.items()
    }
    sys.stdout.buffer.write(orjson.dumps({"prices": prices}, option=orjson.OPT_INDENT_2) + b"\n")
    for note in seed.notes:
        sys.stderr.write(f"{note}\n")
    return 0 if prices else 1
