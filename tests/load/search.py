"""Duration of searches on filled tables: `make bench-search`, on the running fleet's Postgres.

200,000 chunks over 1,000 tenants, and stores of 10 to 10,000 files, in an own database, after ANALYZE. Embedding
the query is not part of the times. Vectors are random: the search by vector and the one by keyword seldom agree. With
`--vectors words` they are those of the words, and most searches in more than twenty files have the feedback. The work
tree and the commit before it are measured in turns, so that what else the machine does weighs on both: compare the
ratio. In the database of the work tree the common words of large stores are counted, and their indexes are created.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import scratch_database
from retrieval.search.indexes_postgres import create_indexes
from retrieval.search.words_postgres import PostgresCommonWords, count_common_words
from retrieval.settings import Settings

from tests.fleet.environment import ROOT
from tests.load import versions
from tests.load.figures import percentile
from tests.load.search_inserts import insert_milliseconds
from tests.load.search_recall import Recall, recall
from tests.load.search_tables import SIZES, fill, make_queries, make_texts
from tests.load.show import Rows, aligned

DSN = "ARGOSY_POSTGRES_DSN"
GOAL_P95_MS = 50
RECALL_QUERIES = 40
MIGRATIONS = Path("services/retrieval/src/retrieval/migrations")
Stores = dict[str, list[tuple[str, str]]]
"""Tenants and stores by what they are."""


class Version:
    """A version of retrieval that searches in a process of its own."""

    def __init__(self, root: Path, section: PostgresSection, stores: Stores) -> None:
        self.stores = stores
        dsn = {"dsn": section.dsn.get_secret_value(), "pool_size": 4}
        self._process = versions.start("tests.load.search_run", root, BENCH_POSTGRES=json.dumps(dsn))
        self.times: dict[str, list[float]] = {}

    def turn(self, stores: str, searches: Sequence[tuple[str, str, str, str]]) -> None:
        """Search for each of (tenant, store, query, vector), one after the other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(searches) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("bench-search: a version could not search; see above")
        self.times.setdefault(stores, []).extend(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


@asynccontextmanager
async def filled_database(root: Path, of_words: bool) -> AsyncIterator[tuple[PostgresSection, Stores, list[str]]]:
    """A database with the migrations of a version."""
    choose = random.Random(18)
    texts = make_texts(choose)
    async with scratch_database(root / MIGRATIONS, "retrieval", extensions=("vector",)) as section:
        assert section.owner_dsn is not None
        settings = {"argosy.tenant": "*", "search_path": "retrieval,public", "jit": "off"}
        owner = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings=settings)
        try:
            stores = await fill(owner, texts, choose, of_words=of_words)
        finally:
            await owner.close()
        yield section, stores, texts


async def prepare_large_stores(section: PostgresSection) -> None:
    """What the service does in the background, and the owner by `python -m retrieval indexes --create`."""
    assert section.owner_dsn is not None
    more_than = Settings.model_fields["exact_scan_chunks"].default
    async with Database(section, "retrieval") as database:
        while await count_common_words(PostgresCommonWords(database)):
            pass
        async for _ in create_indexes(database, section.owner_dsn.get_secret_value(), more_than):
            pass


@dataclass(frozen=True, slots=True)
class Found:
    """What the work tree's version finds in its largest store, and what adding a chunk to a store costs."""

    vectors: Recall
    keywords: Recall
    insert_indexed_ms: float
    insert_ms: float


async def measure(roots: Sequence[Path], searches: int, rounds: int, *, of_words: bool) -> tuple[list[Version], Found]:
    """Measure the versions in turns, and then what the work tree's finds in its largest store."""
    async with AsyncExitStack() as stack:
        migrations = {root: _contents(root / MIGRATIONS) for root in roots}
        filled: dict[str, tuple[PostgresSection, Stores, list[str]]] = {}
        for of_version in migrations.values():  # versions with the same migrations have one database
            if of_version not in filled:
                root = next(root for root in roots if migrations[root] == of_version)
                filled[of_version] = await stack.enter_async_context(filled_database(root, of_words))
                if of_version == migrations[ROOT]:
                    await prepare_large_stores(filled[of_version][0])
        measured = [Version(root, *filled[migrations[root]][:2]) for root in roots]
        for version in measured:
            stack.callback(version.close)
        choose = random.Random(7)
        _, stores, texts = next(iter(filled.values()))
        for number in range(rounds + 1):
            for name in stores:
                queries = make_queries(texts, choose, searches, of_words=of_words)
                places = [choose.randrange(len(stores[name])) for _ in queries]
                for version in measured if number % 2 else reversed(measured):
                    asked = [
                        (*version.stores[name][place], *query) for place, query in zip(places, queries, strict=True)
                    ]
                    version.turn(name, asked)
            if not number:  # connections, prepared statements and caches are warm now
                for version in measured:
                    version.times.clear()
        section, stores, texts = filled[migrations[ROOT]]
        [largest] = stores[f"{max(SIZES)} files"]
        queries = make_queries(texts, choose, RECALL_QUERIES, of_words=of_words)
        vectors, keywords = await recall(section, largest, queries, max(SIZES))
        [without_index] = stores[f"{sorted(SIZES)[-2]} files"]
        inserts = [await insert_milliseconds(section, store) for store in (largest, without_index)]
        return measured, Found(vectors, keywords, *inserts)


def _contents(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.rglob("*.sql")))


def rows(now: Version, before: Version) -> Rows:
    """A row for each kind of stores, with the times of both versions and their ratio."""
    table: Rows = [("", "p50 ms", "before", "ratio", f"p95 ms (goal {GOAL_P95_MS})", "before", "ratio")]
    for name in now.times:
        row = [name]
        for share in (0.5, 0.95):
            new, old = (percentile(sorted(version.times[name]), share) for version in (now, before))
            row += [f"{new:.1f}", f"{old:.1f}", f"{new / old:.2f}"]
        table.append(tuple(row))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD^", help="the commit to compare with (HEAD^)")
    parser.add_argument("--searches", type=int, default=20, help="searches in a turn (20)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each version (10)")
    parser.add_argument("--vectors", choices=("random", "words"), default="random", help="vectors of texts (random)")
    options = parser.parse_args()
    if DSN not in os.environ:
        paths = FleetPaths.from_environment()
        if not paths.env.exists():
            raise SystemExit("bench-search: the fleet does not run; `make up` starts it")
        os.environ[DSN] = read_pairs(paths.env)[DSN]
    roots = [versions.sources(options.before), ROOT]
    of_words = options.vectors == "words"
    (before, now), found = asyncio.run(measure(roots, options.searches, options.rounds, of_words=of_words))
    sys.stdout.write("\n".join(aligned(rows(now, before))) + "\n\n")
    for name, one in (("vectors", found.vectors), ("keywords", found.keywords)):
        sys.stdout.write(f"{name} in the largest store: recall@10 {one.first:.3f}, of all candidates {one.all:.3f}\n")
    inserts = f"{found.insert_indexed_ms:.2f} ms to the largest store with its index, {found.insert_ms:.2f} ms without"
    sys.stdout.write(f"CPU of Postgres to add the vector of a chunk: {inserts}\n")


if __name__ == "__main__":
    main()
