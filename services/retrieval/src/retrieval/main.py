"""Builds the retrieval service."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

from chassis.aio import periodic
from chassis.grpc import Channel
from chassis.in_flight import InFlightLimit
from chassis.kafka import DEAD_LETTERS, Consumer, Outbox, OutboxRelay, replay_dead_letters
from chassis.lifecycle import Command, Component, Loop, Service, ServiceBuilder, command_line, with_builder
from chassis.postgres import Database

from retrieval import metrics
from retrieval.chunking.token_counter import EstimatedTokenCounter, TokenCounter
from retrieval.chunking.wordpiece import WordPieceTokenCounter
from retrieval.deletions.delete import delete_pending
from retrieval.deletions.grpc import DeletionMethods
from retrieval.deletions.postgres import PostgresDeletionQueue
from retrieval.deletions.records_postgres import PostgresDeletionRecords
from retrieval.deletions.report import RECORDS_KEPT
from retrieval.embeddings.model import DIMENSIONS
from retrieval.embeddings.orchestrator_client import OrchestratorEmbedder
from retrieval.file_batches.grpc import FileBatchMethods
from retrieval.file_batches.postgres import PostgresFileBatches
from retrieval.files.grpc import FileMethods
from retrieval.files.objects import ObstoreObjectStore
from retrieval.files.postgres import PostgresFiles
from retrieval.grpc import RetrievalServicer, registration
from retrieval.ingestion.consumer import FileAttachedConsumer
from retrieval.ingestion.embed import ChunkEmbedder
from retrieval.ingestion.fair_queue import FairQueue, consume
from retrieval.ingestion.grouped_postgres import GroupedIngestionStore
from retrieval.ingestion.model import FILE_INDEXED_TOPIC
from retrieval.ingestion.ports import IngestionStore
from retrieval.ingestion.run import Ingestion
from retrieval.ingestion.schedule import IngestionWorker, queue_overdue
from retrieval.parsing.limits import Limits
from retrieval.parsing.subprocess_parser import SubprocessParser
from retrieval.reindexing.cli import add_reindex_arguments, reindex
from retrieval.reindexing.failures import PausedFiles
from retrieval.reindexing.postgres import PostgresKeywordVersions
from retrieval.reindexing.rebuild import rebuild_while_idle
from retrieval.reindexing.schedule import log_failure
from retrieval.search.grpc import SearchMethods
from retrieval.search.indexes_postgres import create_indexes, index_statements
from retrieval.search.orchestrator_client import OrchestratorReranker
from retrieval.search.postgres import PostgresSearchIndex
from retrieval.search.rerank import RerankPolicy
from retrieval.search.words_postgres import PostgresCommonWords, count_common_words
from retrieval.semantic_cache.find import remove_expired
from retrieval.semantic_cache.grpc import SemanticCacheServicer
from retrieval.semantic_cache.grpc import registration as semantic_cache_registration
from retrieval.semantic_cache.postgres import PostgresPromptStore
from retrieval.settings import EmbeddingSection, ObjectsSection, RerankSection, Settings
from retrieval.store_migrations.grpc import StoreMigrationMethods
from retrieval.store_migrations.model import MigrationKey
from retrieval.store_migrations.postgres import PostgresStoreMigrations
from retrieval.store_migrations.run import Migrator
from retrieval.store_migrations.runs_postgres import PostgresMigrationRuns
from retrieval.store_migrations.schedule import MigrationWorker, queue_overdue_migrations
from retrieval.vector_stores.create import expire_stores
from retrieval.vector_stores.grpc import VectorStoreMethods
from retrieval.vector_stores.model import FILE_ATTACHED_TOPIC, AttachmentKey, EmbeddingModels
from retrieval.vector_stores.postgres import PostgresVectorStores, name_embedding_model

MIGRATIONS = Path(__file__).parent / "migrations"
# Stores that a version before this one makes do not name their model.
NAME_MODELS_INTERVAL = timedelta(minutes=10)
FORGET_INTERVAL = timedelta(hours=1)
COMMON_WORDS_INTERVAL = timedelta(minutes=1)


async def build(settings: Settings, builder: ServiceBuilder) -> list[Component]:
    """Open the clients and wire the features."""
    database = await builder.database(settings.postgres, MIGRATIONS)
    channel = await builder.channel(settings.peers.orchestrator, "orchestrator")
    relay = OutboxRelay(database, await builder.publisher(settings.kafka))
    objects = ObstoreObjectStore(settings.objects.url)
    embedding, models = settings.embedding, embedding_models(settings.embedding)
    embedder = OrchestratorEmbedder(channel, embedding.model, embedding.deadline, models.dimensions)
    store = GroupedIngestionStore(database, wake_relay=relay.wake)
    queue = FairQueue()
    chunk_embedder = ChunkEmbedder(store, embedder, builder.signer, token_counter(settings))
    limits = Limits(**settings.parser.model_dump(exclude={"processes"}))
    parser = await builder.open(SubprocessParser(limits, settings.parser.processes))
    worker = IngestionWorker(_ingestion(settings, store, objects, chunk_embedder, queue, parser=parser), queue)
    runs = PostgresMigrationRuns(database)
    migrations = MigrationWorker(_migrator(settings, runs, chunk_embedder, queue), queue)

    async def run_queued(key: AttachmentKey | MigrationKey) -> None:
        await (migrations.run(key) if isinstance(key, MigrationKey) else worker.run(key))

    async def reap() -> None:
        await queue_overdue(store, queue)
        await queue_overdue_migrations(runs, queue)

    delete = partial(
        delete_pending, queue=PostgresDeletionQueue(database), objects=objects, on_deleted=metrics.DELETIONS.inc
    )
    vector_stores = PostgresVectorStores(database, Outbox(), relay.wake)
    records = PostgresDeletionRecords(database)
    servicer = RetrievalServicer(
        files=FileMethods(
            PostgresFiles(database),
            objects,
            settings.objects.max_upload_bytes,
            upload_limit(settings.objects),
            settings.quotas.quotas(),
        ),
        vector_stores=VectorStoreMethods(vector_stores, models, settings.quotas.quotas()),
        file_batches=FileBatchMethods(PostgresFileBatches(database, Outbox(), relay.wake)),
        search=_search(settings, database, embedder, channel),
        store_migrations=StoreMigrationMethods(PostgresStoreMigrations(database), models, queue.put),
        deletions=DeletionMethods(records, objects),
    )
    prompts = PostgresPromptStore(database)
    expire = partial(remove_expired, prompts, metrics.CACHED_PROMPTS_EXPIRED.inc)
    semantic_cache = SemanticCacheServicer(prompts, embedder, settings.semantic_cache.max_entries_per_tenant)
    return [
        relay,
        *(
            Loop(f"ingestion-{n}", partial(consume, queue=queue, run=run_queued))
            for n in range(settings.ingestion.slots)
        ),
        Loop("reaper", periodic(settings.ingestion.poll_interval, reap, "reaper")),
        *_upkeep(settings, database, records, vector_stores, lambda: len(queue) > 0 or worker.running > 0),
        Loop("deletions", periodic(settings.deletions.sweep_interval, delete, "deletions")),
        Loop("cached-prompts", periodic(settings.semantic_cache.sweep_interval, expire, "cached-prompts")),
        builder.topics(settings.kafka, FILE_ATTACHED_TOPIC, f"{FILE_ATTACHED_TOPIC}{DEAD_LETTERS}", FILE_INDEXED_TOPIC),
        Consumer(settings.kafka, FILE_ATTACHED_TOPIC, FileAttachedConsumer(queue)),
        builder.grpc_server(settings.grpc, registration(servicer), semantic_cache_registration(semantic_cache)),
    ]


def _upkeep(
    settings: Settings,
    database: Database,
    records: PostgresDeletionRecords,
    vector_stores: PostgresVectorStores,
    is_busy: Callable[[], bool],
) -> list[Component]:
    """What keeps older rows up to date, and forgets what is no longer asked for."""
    versions, paused = PostgresKeywordVersions(database), PausedFiles(log_failure)
    rebuild = partial(rebuild_while_idle, versions, is_busy, metrics.REINDEXED_FILES.inc, paused)
    common_words = PostgresCommonWords(database)

    async def count_words() -> None:
        await count_common_words(common_words)

    name_models = partial(name_embedding_model, database, settings.embedding.model)
    empty_stores = partial(expire_stores, vector_stores, metrics.EXPIRED_STORES.inc)
    return [
        Loop("expired-stores", periodic(settings.expiry.sweep_interval, empty_stores, "expired-stores")),
        Loop("embedding-models", periodic(NAME_MODELS_INTERVAL, name_models, "embedding-models")),
        Loop("reindexing", periodic(settings.reindexing.interval, rebuild, "reindexing")),
        Loop("common-words", periodic(COMMON_WORDS_INTERVAL, count_words, "common-words")),
        Loop("deletion-records", periodic(FORGET_INTERVAL, partial(records.forget, RECORDS_KEPT), "deletion-records")),
    ]


def _migrator(
    settings: Settings, runs: PostgresMigrationRuns, chunk_embedder: ChunkEmbedder, queue: FairQueue
) -> Migrator:
    return Migrator(
        runs,
        chunk_embedder,
        others_wait=lambda: len(queue) > 0,
        batch_size=settings.ingestion.batch_size,
        lease=settings.ingestion.lease,
        grace=settings.store_migrations.search_grace,
    )


def embedding_models(section: EmbeddingSection) -> EmbeddingModels:
    dimensions = {section.model: DIMENSIONS, **section.models}
    return EmbeddingModels(dimensions, section.new_store_model or section.model)


def upload_limit(objects: ObjectsSection) -> InFlightLimit:
    return InFlightLimit(
        "uploads",
        objects.max_uploads,
        objects.max_uploads_per_tenant,
        on_refused=lambda scope: metrics.UPLOADS_REFUSED.labels(scope).inc(),
    )


def _search(settings: Settings, database: Database, embedder: OrchestratorEmbedder, channel: Channel) -> SearchMethods:
    policy = rerank_policy(settings.rerank, channel)
    return SearchMethods(PostgresSearchIndex(database), embedder, token_counter(settings), policy)


def rerank_policy(section: RerankSection, channel: Channel) -> RerankPolicy | None:
    """None without a model: then searches that ask for the reranker are refused."""
    if not section.model:
        return None
    return RerankPolicy(OrchestratorReranker(channel, section.model), section.timeout, section.by_default)


def token_counter(settings: Settings) -> TokenCounter:
    tokenizer = settings.embedding.tokenizer
    return WordPieceTokenCounter(tokenizer) if tokenizer else EstimatedTokenCounter()


def _ingestion(
    settings: Settings,
    store: IngestionStore,
    objects: ObstoreObjectStore,
    chunk_embedder: ChunkEmbedder,
    queue: FairQueue,
    *,
    parser: SubprocessParser,
) -> Ingestion:
    return Ingestion(
        store=store,
        objects=objects,
        parser=parser,
        token_counter=token_counter(settings),
        chunk_embedder=chunk_embedder,
        has_other_tenants=queue.has_other_tenants,
        max_bytes=settings.ingestion.max_bytes,
        batch_size=settings.ingestion.batch_size,
        lease=settings.ingestion.lease,
        quotas=settings.quotas.quotas(),
    )


async def reindex_stores(settings: Settings, arguments: argparse.Namespace) -> None:
    """Index the keywords of one store, or of all, anew by the newest rules."""
    async with Database(settings.postgres, "retrieval") as database:
        await reindex(PostgresKeywordVersions(database), arguments.store or "", every=arguments.every)


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--create", action="store_true", help="run the SQL, as the schema's owner")


async def indexes(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print the statements for the indexes of large vector stores, or run them as the schema's owner."""
    owner, more_than = settings.postgres.owner_dsn, settings.exact_scan_chunks
    if arguments.create and owner is None:
        sys.stderr.write("The owner's connection URL (RETRIEVAL_POSTGRES__OWNER_DSN) is required, and not set.\n")
        return os.EX_CONFIG
    async with Database(settings.postgres, "retrieval") as database:
        statements = (
            create_indexes(database, owner.get_secret_value(), more_than)
            if arguments.create and owner is not None
            else index_statements(database, more_than)
        )
        async for statement in statements:
            sys.stdout.write(f"{statement}\n")
            sys.stdout.flush()
    return 0


def main() -> NoReturn:
    command_line(
        Service(
            name="retrieval",
            settings=Settings,
            build=with_builder(build),
            schema="retrieval",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={
                "indexes": Command(
                    "print SQL for the HNSW indexes of large vector stores, or run it", indexes, add_index_arguments
                ),
                "reindex": Command(
                    "index the keywords of files of older rules anew", reindex_stores, add_reindex_arguments
                ),
                "replay-dead-letters": replay_dead_letters(lambda settings: settings.kafka, FILE_ATTACHED_TOPIC),
            },
            description="Knowledge: files, chunks, vectors, hybrid search.",
        )
    )
