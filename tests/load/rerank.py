"""`make bench-rerank`: how long a cross-encoder takes for the best 50 passages of a search, in one thread of a worker.

The weights are random: cost does not depend on them. Passages are of a chunk's size, tokenized as MiniLM does.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from argosy_dev.fleet.paths import FleetPaths
from inference_worker.providers.cross_encoder import CrossEncoder

from tests.simulators.cross_encoders import write_bert

PASSAGES, MAX_TOKENS = 50, 512
QUERY = "what has to be done before a ship may leave the harbour in winter"
WORDS = [
    "the",
    "master",
    "of",
    "the",
    "vessel",
    "signs",
    "the",
    "list",
    "of",
    "the",
    "crew",
    "and",
    "cargo",
    "before",
    "it",
    "leaves",
]
CHUNK_TOKENS = 192


async def measure(folder: Path, words: int, runs: int) -> list[float]:
    """Milliseconds of each call, from the shortest."""
    passage = " ".join(WORDS[number % len(WORDS)] for number in range(words))
    passages = [f"{passage} {number}" for number in range(PASSAGES)]
    times = []
    async with CrossEncoder(folder, 1, MAX_TOKENS) as model:
        await model.rerank("bert", QUERY, passages[:2])
        for _ in range(runs):
            started = time.perf_counter()
            await model.rerank("bert", QUERY, passages)
            times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    tokenizer = FleetPaths.from_environment().minilm / "tokenizer.json"
    sys.stdout.write(f"{PASSAGES} passages, one thread, {runs} calls{'':<8}p50 ms   p95 ms   ms per passage\n")
    for layers, width, heads in ((2, 128, 2), (4, 256, 4), (6, 384, 12)):
        with TemporaryDirectory() as made:
            folder = write_bert(Path(made), layers=layers, width=width, heads=heads)
            shutil.copy(tokenizer, folder)
            for words in (CHUNK_TOKENS // 3, CHUNK_TOKENS):
                times = asyncio.run(measure(folder, words, runs))
                p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
                name = f"{layers} layers, width {width}, {words} tokens"
                sys.stdout.write(f"{name:<44}{p50:>9.1f}{p95:>9.1f}{p50 / PASSAGES:>17.2f}\n")


if __name__ == "__main__":
    main()
