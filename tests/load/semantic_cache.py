"""Time of a look-up among the cached prompts of one tenant, without the embedding of the prompt.

.venv/bin/python -m tests.load.semantic_cache [prompts]
"""

import asyncio
import random
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import retrieval
from chassis.postgres import Database
from chassis.testing.postgres import scratch_database
from retrieval.embeddings.model import DIMENSIONS, Vector
from retrieval.semantic_cache.model import CachedPrompt
from retrieval.semantic_cache.postgres import PostgresPromptStore

from services.retrieval.tests.contracts.cached_prompts import HOUR, ONE
from services.retrieval.tests.filled_tables import fill_prompts

MIGRATIONS = Path(retrieval.__file__).parent / "migrations"
TENANT, OTHER, FULL = "ten_one", "ten_other", "ten_full"
PROMPTS, SEARCHES, PUTS, THRESHOLD = 20_000, 500, 50, 0.95
PER_PARTITION = (500, 20)
"""The most that are kept in one, and a usual number: prompts of a partition are of the same words, so they are few."""
SPREAD = """
UPDATE cached_prompts
SET partition = convert_to(lpad((substring(prompt from '[0-9]+')::integer % $2)::text, 32, '0'), 'UTF8')
WHERE tenant_id = $1
"""


def a_vector() -> Vector:
    return Vector(struct.pack(f"<{DIMENSIONS}f", *(random.random() - 0.5 for _ in range(DIMENSIONS))))


def percentiles(milliseconds: list[float]) -> str:
    ordered = sorted(milliseconds)
    return "  ".join(f"p{percent} {ordered[len(ordered) * percent // 100]:.1f} ms" for percent in (50, 95, 99))


def partition(number: int) -> bytes:
    return b"%032d" % number


async def timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> str:
    milliseconds = []
    for call in calls:
        start = time.perf_counter()
        await call()
        milliseconds.append((time.perf_counter() - start) * 1_000)
    return percentiles(milliseconds)


async def measure(prompts: int) -> None:
    async with scratch_database(MIGRATIONS, "retrieval", extensions=("vector",), pool_size=2) as section:
        assert section.owner_dsn is not None
        settings = {"argosy.tenant": "*", "search_path": "retrieval,public"}
        owner: Any = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings=settings, timeout=30)
        for tenant in (OTHER, FULL):
            await fill_prompts(owner, tenant, ONE, prompts)
        await fill_prompts(owner, TENANT, ONE, prompts)
        async with Database(section, "retrieval") as database:
            store = PostgresPromptStore(database)
            find = partial(store.find, TENANT, min_similarity=THRESHOLD, limit=4)
            print(f"{prompts} prompts of a tenant, as many of two others")
            await owner.execute("VACUUM ANALYZE cached_prompts")
            # What the scan would cost without the bound of a partition, and with it after the next prompt is kept.
            calls = [partial(find, ONE, a_vector()) for _ in range(SEARCHES // 10)]
            print(f"look-up, all in one partition       {await timed(calls)}")
            await store.put(FULL, CachedPrompt(ONE, "new", "m", "What is new?", HOUR * 48), a_vector(), 2 * prompts)
            await owner.execute("VACUUM ANALYZE cached_prompts")
            kept = await owner.fetchval("SELECT count(*) FROM cached_prompts WHERE tenant_id = $1", FULL)
            calls = [partial(store.find, FULL, ONE, a_vector(), THRESHOLD, 4) for _ in range(SEARCHES)]
            print(f"look-up, a partition of {prompts} puts, {kept} kept   {await timed(calls)}")
            for each in PER_PARTITION:
                partitions = max(1, prompts // each)
                await owner.execute(SPREAD, TENANT, partitions)
                await owner.execute("VACUUM ANALYZE cached_prompts")
                calls = [partial(find, partition(number % partitions), a_vector()) for number in range(SEARCHES)]
                print(f"look-up, {each} in each of {partitions} partitions   {await timed(calls)}")
            has = [partial(store.has_prompts, TENANT, partition(number)) for number in range(SEARCHES)]
            print(f"whether a partition has any         {await timed(has)}")
            new = [CachedPrompt(ONE, f"new {number}", "m", "What is new?", HOUR * 48) for number in range(PUTS)]
            puts = [partial(store.put, TENANT, prompt, a_vector(), prompts) for prompt in new]
            print(f"put, with the bound of the tenant   {await timed(puts)}")
        await owner.close()


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS))
