"""Large answers of vectors: rendered without holding up the event loop."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time

import pytest
from orchestrator.embeddings.body import THREAD_BYTES, EmbeddingBody, render_embeddings

DIMENSIONS = 384
COUNT = 16 * 1024 * 1024 // (4 * DIMENSIONS)
MAX_TURN_SECONDS = 0.03
"""Of the CPU, so that a busy machine changes nothing. To put 80 MiB together takes twice as long."""


async def max_turn(done: asyncio.Event) -> float:
    """Return the most CPU seconds that the event loop gave to others at a stretch."""
    most, last = 0.0, time.thread_time()
    while not done.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        most, last = max(most, now - last), now
    return most


@pytest.mark.parametrize("as_base64", [False, True])
async def test_no_turn_of_a_large_answer_is_long(*, as_base64: bool) -> None:
    numbers = random.Random(1)
    some = [struct.pack(f"<{DIMENSIONS}f", *(numbers.uniform(-1, 1) for _ in range(DIMENSIONS))) for _ in range(50)]
    vectors = (some * (COUNT // len(some) + 1))[:COUNT]
    done = asyncio.Event()
    watching = asyncio.create_task(max_turn(done))
    await asyncio.sleep(0)

    answer = await render_embeddings(EmbeddingBody("m", ("x",), 0, as_base64), vectors, 3, 2**30)

    done.set()
    assert await watching < MAX_TURN_SECONDS
    assert answer is not None
    assert len(answer) > THREAD_BYTES
    assert len(json.loads(answer)["data"]) == COUNT
