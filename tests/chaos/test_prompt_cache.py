"""Two tenants on the shipped model: neither a field nor a time tells one of them what the other asked.

In each trial one tenant asks one of two prompts, chosen at random. The other tenant asks both, in random order, and
guesses by one signal at a time, such as the time to the first token: the prompt with the smaller value was asked
before. Without a leak every guess is a coin toss. TESTS_TRIALS is the number of trials.
"""

import json
import math
import os
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(3600)]

TRIALS = int(os.environ.get("TESTS_TRIALS", "12"))
PROMPT_WORDS = 50
WORDS = ("river", "stone", "lamp", "cloud", "anchor", "violet", "harbour", "kettle", "saddle", "meadow", "copper")
SIGNIFICANCE = 0.001
FIRST_BYTE, LAST_BYTE = "time to first byte", "time to last byte"
CACHE_CONTROLS = {"prompt_cache_key": "same", "user": "same"}
"""What a client may send to make the leak larger."""

Signals = dict[str, float | str]


async def test_a_guess_at_what_another_tenant_asked_is_no_better_than_chance(fleet: Fleet) -> None:
    dice = random.Random()
    guesses: dict[str, list[bool]] = {}
    async with fleet.new_tenant() as victim, fleet.new_tenant() as attacker:
        for _ in range(TRIALS):
            prompts = [" ".join(dice.choices(WORDS, k=PROMPT_WORDS)) for _ in range(2)]
            secret = dice.randrange(2)
            await ask(victim, prompts[secret])
            seen: dict[int, Signals] = {}
            for number in dice.sample((0, 1), 2):
                seen[number] = await ask(attacker, prompts[number])
            for name in seen[0].keys() | seen[1].keys():
                guess = guess_by(seen[0].get(name, ""), seen[1].get(name, ""), dice)
                guesses.setdefault(name, []).append(guess == secret)

    right = {name: (sum(hits), len(hits)) for name, hits in sorted(guesses.items())}
    print(
        "\n"
        + "\n".join(f"{name:40} {hits:4} of {n} right, p = {p_value(hits, n):.3f}" for name, (hits, n) in right.items())
    )
    assert right[FIRST_BYTE][1] == right[LAST_BYTE][1] == TRIALS
    # Of many fields some leave their own interval by chance. With a shared cache every guess was right.
    fields = right.keys() - {FIRST_BYTE, LAST_BYTE}
    leaks = {name: right[name] for name in fields if p_value(*right[name]) < SIGNIFICANCE / len(fields)}
    leaks |= {name: right[name] for name in (FIRST_BYTE, LAST_BYTE) if p_value(*right[name]) < SIGNIFICANCE}
    assert leaks == {}


async def ask(client: httpx.AsyncClient, prompt: str) -> Signals:
    """Ask, and return all that the client can see: times, headers, and every field of every chunk."""
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
        **CACHE_CONTROLS,
    }
    started = time.perf_counter()
    signals: Signals = {}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        signals |= {f"header {name}": value for name, value in response.headers.items() if name != "date"}
        number = 0
        async for line in response.aiter_lines():
            signals.setdefault(FIRST_BYTE, time.perf_counter() - started)
            if line.startswith("data: {"):
                signals |= {f"chunk {number}{path}": value for path, value in leaves(json.loads(line[6:]))}
                number += 1
        assert response.status_code == 200, signals
    signals[LAST_BYTE] = time.perf_counter() - started
    return signals


def leaves(value: object, path: str = "") -> Iterator[tuple[str, float | str]]:
    """All fields of a JSON document that are no objects or lists, by their paths."""
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, float(value) if isinstance(value, int | float) else str(value)
        return
    for name, item in items:
        yield from leaves(item, f"{path}.{name}")


def guess_by(first: float | str, second: float | str, dice: random.Random) -> int:
    """The prompt with the smaller value; a coin toss when both are equal."""
    if first == second:
        return dice.randrange(2)
    smaller = first < second if isinstance(first, float) and isinstance(second, float) else str(first) < str(second)
    return 0 if smaller else 1


def p_value(hits: int, trials: int) -> float:
    """How likely so many or so few right guesses are by chance: the exact two-sided binomial test."""
    tail = min(hits, trials - hits)
    ways = sum(math.comb(trials, k) for k in range(tail + 1))
    return min(1.0, float(2 * ways / 2**trials))
