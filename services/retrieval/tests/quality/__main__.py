"""`make eval-retrieval DATA=folder`: quality of the search on a data set in BEIR's format, with the shipped models.

Indexes it in a database of its own, on the Postgres of the running fleet, and drops it at the end. Without DATA it
takes the small set beside this file, which shows that it works and no more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import retrieval
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from chassis.ids import new_id
from chassis.kafka import Outbox
from chassis.postgres import Database
from chassis.testing.postgres import scratch_database
from inference_worker.providers.minilm import MinilmEmbedder
from retrieval.chunking.wordpiece import WordPieceTokenCounter
from retrieval.deletions.postgres import PostgresDeletionQueue
from retrieval.embeddings.model import Embedder, Vector
from retrieval.file_batches.postgres import PostgresFileBatches
from retrieval.files.postgres import PostgresFiles
from retrieval.ingestion.postgres import PostgresIngestionStore
from retrieval.search.postgres import PostgresSearchIndex
from retrieval.search.words_postgres import PostgresCommonWords, count_common_words
from retrieval.store_migrations.postgres import PostgresStoreMigrations
from retrieval.store_migrations.runs_postgres import PostgresMigrationRuns
from retrieval.vector_stores.postgres import PostgresVectorStores

from services.retrieval.tests.quality.beir import InvalidDataset, load_beir
from services.retrieval.tests.quality.evaluate import index, report
from services.retrieval.tests.tenants import Ports, Tenant

MIGRATIONS = Path(retrieval.__file__).parent / "migrations"
SMALL = Path(__file__).parent / "small"
DSN = "ARGOSY_POSTGRES_DSN"


class Minilm:
    """Implements Embedder with the inference worker's model, in this process and for free."""

    model = "minilm"

    def __init__(self, embedder: MinilmEmbedder) -> None:
        self._embedder = embedder

    def of(self, model: str) -> Embedder:
        raise AssertionError(f"no store has the model {model!r}")

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [Vector(vector) for vector in (await self._embedder.embed(self.model, texts, dimensions=None)).vectors]


async def evaluate(folder: Path, model: Path) -> str:
    dataset = load_beir(folder)
    async with AsyncExitStack() as stack:
        section = await stack.enter_async_context(scratch_database(MIGRATIONS, "retrieval", extensions=("vector",)))
        database = await stack.enter_async_context(Database(section, "retrieval"))
        embedder = Minilm(await stack.enter_async_context(MinilmEmbedder(model, 1)))
        ports = Ports(
            PostgresFiles(database),
            PostgresVectorStores(database, Outbox(), lambda: None),
            PostgresIngestionStore(database, overdue_after=timedelta(0)),
            PostgresSearchIndex(database),
            PostgresDeletionQueue(database),
            PostgresFileBatches(database, Outbox(), lambda: None),
            PostgresStoreMigrations(database),
            PostgresMigrationRuns(database),
        )
        counter = WordPieceTokenCounter(model / "tokenizer.json")
        indexed = await index(dataset, Tenant(ports, new_id("ten_")), embedder, counter)
        await count_common_words(PostgresCommonWords(database))  # as the service does in the background
        return await report(dataset, indexed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=SMALL, help="folder with corpus.jsonl and so on")
    folder = parser.parse_args().data
    paths = FleetPaths.from_environment()
    if DSN not in os.environ:
        if not paths.env.exists():
            raise SystemExit("eval-retrieval: the fleet does not run; `make up` starts it")
        os.environ[DSN] = read_pairs(paths.env)[DSN]
    try:
        sys.stdout.write(asyncio.run(evaluate(folder, paths.assets / "models" / "minilm")) + "\n")
    except InvalidDataset as error:
        raise SystemExit(f"eval-retrieval: {error}") from None


if __name__ == "__main__":
    main()
