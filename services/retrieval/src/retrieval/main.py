"""Retrieval, put together."""

import argparse
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer
from chassis.kafka import Consumer, Outbox, OutboxRelay, Publisher
from chassis.lifecycle import Check, Command, Component, Loop, Service, command_line
from chassis.postgres import Database
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalSigner, PrincipalVerifier

from retrieval.adapters.embedder import OrchestratorEmbedder
from retrieval.adapters.objects import ObstoreObjects
from retrieval.adapters.parsers.limits import Limits
from retrieval.adapters.parsers.parent import ChildProcessParser
from retrieval.adapters.postgres import (
    PostgresFiles,
    PostgresIndex,
    PostgresIngests,
    PostgresRemovals,
    PostgresVectorStores,
)
from retrieval.adapters.postgres.hnsw import statements
from retrieval.adapters.tokens import WordpieceTokens
from retrieval.api.events import TOPIC, FileAttachedEvents
from retrieval.api.loops import Indexing, Reaper, Sweeper, every
from retrieval.api.servicer import RetrievalServicer, registration
from retrieval.domain.backlog import Backlog, work
from retrieval.domain.chunking import EstimatedTokens
from retrieval.domain.ingestion import Ingestion
from retrieval.settings import ParserSection, Settings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open the clients and yield what runs; the server comes last, so it is the first to stop."""
    clock = SystemClock()
    secrets = [secret.get_secret_value() for secret in settings.principal.secrets]
    objects = ObstoreObjects(settings.objects.url)
    async with (
        Database(settings.postgres, "retrieval") as database,
        Publisher(settings.kafka.bootstrap) as publisher,
        Channel(settings.orchestrator.target, "orchestrator") as channel,
    ):
        relay = OutboxRelay(database, publisher)
        embedder = OrchestratorEmbedder(channel, settings.embedding.model, settings.embedding.deadline)
        ingests = PostgresIngests(database)
        backlog = Backlog()
        ingestion = Ingestion(
            ingests=ingests,
            objects=objects,
            parser=ChildProcessParser(_limits(settings.parser)),
            tokens=WordpieceTokens(settings.embedding.tokenizer) if settings.embedding.tokenizer else EstimatedTokens(),
            embedder=embedder,
            signer=PrincipalSigner(secrets[0], "retrieval", clock),
            others_wait=backlog.others_wait,
            max_bytes=settings.ingest.max_bytes,
            batch_size=settings.ingest.batch,
            lease=settings.ingest.lease,
        )
        servicer = RetrievalServicer(
            files=PostgresFiles(database),
            objects=objects,
            stores=PostgresVectorStores(database, Outbox(), relay.wake),
            index=PostgresIndex(database),
            embedder=embedder,
            max_upload_bytes=settings.objects.max_upload_bytes,
        )
        indexing = Indexing(ingestion, backlog)
        yield [
            Check("postgres", database.ping),
            relay,
            *(
                Loop(f"indexing-{n}", partial(work, backlog=backlog, run=indexing.run))
                for n in range(settings.ingest.slots)
            ),
            Loop("reaper", every(settings.ingest.look, Reaper(ingests, backlog).look, "reaper")),
            Loop("sweeper", every(settings.sweep, Sweeper(PostgresRemovals(database), objects).look, "sweeper")),
            Consumer(settings.kafka.bootstrap, settings.kafka.group, TOPIC, FileAttachedEvents(backlog)),
            GrpcServer(
                settings.grpc.bind,
                [registration(servicer)],
                PrincipalVerifier(secrets, clock),
                clock,
            ),
        ]


def _limits(section: ParserSection) -> Limits:
    return Limits(
        memory_bytes=section.memory_bytes,
        cpu_seconds=section.cpu_seconds,
        expanded_bytes=section.expanded_bytes,
        block_seconds=section.block_seconds,
    )


async def print_indexes(settings: Settings, _: argparse.Namespace) -> None:
    """Print what the schema's owner should run for large vector stores; nothing when all is well."""
    async with Database(settings.postgres, "retrieval") as database:
        async for statement in statements(database, settings.exact_scan_chunks):
            sys.stdout.write(f"{statement}\n")


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="retrieval",
            settings=Settings,
            build=build,
            schema="retrieval",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={"indexes": Command("print SQL for the HNSW indexes of large vector stores", print_indexes)},
            description="Knowledge: files, chunks, vectors, hybrid search.",
        )
    )
