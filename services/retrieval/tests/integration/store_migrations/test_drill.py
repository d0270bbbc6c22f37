"""A store changes to another embedding model while it is searched and filled, and while its processes are killed.

`MIGRATION_DRILL=long` makes the store ten times as large, and changes its model there and back.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import ArgosyError, RemoteError, Unavailable
from chassis.postgres import Database

from services.retrieval.tests import documents
from services.retrieval.tests.integration.own_service import Orchestrator, ServiceRunner, attached, finished, until

LONG = os.environ.get("MIGRATION_DRILL") == "long"
PAGES = 400 if LONG else 40
"""Of each of the two files; as many questions."""
SEARCHERS = 3
BATCH = 4
SLOTS = 4
"""Files that a replica ingests at the same time."""
OWN, OTHER = "all-minilm-l6-v2", "narrow"
DIMENSIONS = {OWN: 384, OTHER: 256}
CHANGES = (OTHER, OWN, OTHER) if LONG else (OTHER,)
KILLS = 4 if LONG else 2
"""Of each change."""
ANSWERS = {OWN: "amber", OTHER: "cobalt"}
"""What each model takes for the answer to a question, with whose page it has no word in common."""


def page(colour: str, number: int) -> str:
    return f"{colour}{number}x"


class TwoModels(Orchestrator):
    """Question 17 is nearest to page amber17x for one model, and to cobalt17x for the other.

    So the first passage tells which model found it, and vectors of two models that are compared find neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedded: Counter[tuple[str, str]] = Counter()
        self.twice = 0
        """Texts of files that were embedded again while the store had their vectors."""
        self.enough = asyncio.Event()
        self.awaited: tuple[str, int] = ("", 0)

    def vector(self, model: str, text: str) -> bytes:
        self.embedded[model, text] += 1
        if self.paid(self.awaited[0]) >= self.awaited[1]:
            self.enough.set()
        floats = [0.0] * DIMENSIONS[model]
        found = re.search(r"([a-z]+)(\d+)", text)
        assert found is not None, text
        word, number = found[1], int(found[2])
        answers = word in {"seek", ANSWERS[model]}
        # Of the 400 questions of the long form, several share a direction; the sign and a second one keep them apart.
        half = len(floats) // 2
        place = (number * 7 + (0 if answers else 61)) % half
        floats[place] = 1.0
        floats[half + (number // half * 31 + number) % half] = 1.0 if answers else -1.0
        return struct.pack(f"<{len(floats)}f", *floats)

    def paid(self, model: str) -> int:
        """Texts of files that the model has embedded."""
        return sum(times for (name, text), times in self.embedded.items() if name == model and "seek" not in text)

    def forget(self, model: str) -> None:
        """The store has no vectors of the model any more."""
        mine = [key for key in self.embedded if key[0] == model]
        times = {key: self.embedded.pop(key) for key in mine}
        self.twice += sum(count - 1 for (_, text), count in times.items() if "seek" not in text)

    async def until_paid(self, model: str, texts: int) -> None:
        self.awaited = (model, texts)
        self.enough.clear()
        if self.paid(model) < texts:
            await asyncio.wait_for(self.enough.wait(), 120)


@dataclass
class Replica:
    """A process of the service that can be killed; it is started again at once."""

    service: ServiceRunner
    stub: Any = None
    process: Any = None
    kills: int = 0
    _up: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_running(self) -> None:
        async with self.service.connect() as self.stub:
            while True:
                async with self.service.start() as self.process:
                    await until(lambda: self.stub.ListFiles(pb.ListFilesRequest()), lambda _: True)
                    self._up.set()
                    await self.process.wait()
                    self._up.clear()

    async def up(self) -> None:
        await asyncio.wait_for(self._up.wait(), 60)

    async def kill(self) -> None:
        await self.up()
        self.kills += 1
        self._up.clear()
        self.process.kill()


@dataclass
class Drill:
    """Searches and uploads that run while the store changes, and what became of them."""

    replicas: list[Replica]
    store_id: str = ""
    searches: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0
    late: list[str] = field(default_factory=list)
    uploads: list[dict[str, str]] = field(default_factory=list)
    expected: set[str] = field(default_factory=lambda: {OWN})

    async def search_forever(self, seed: int) -> None:
        chosen = random.Random(seed)
        while True:
            await self._search(chosen.randrange(PAGES), chosen.randrange(2))

    async def _search(self, number: int, first: int) -> None:
        allowed = set(self.expected)
        request = pb.SearchRequest(vector_store_ids=[self.store_id], query=page("seek", number), limit=1)
        for attempt in range(60):
            replica = self.replicas[(first + attempt) % len(self.replicas)]
            try:
                found = (await replica.stub.Search(request)).passages
            except Unavailable:  # its process was killed: the caller asks another one
                self.asked_again += 1
                await replica.up()
            except (RemoteError, ArgosyError) as error:
                self.searches[f"failed: {error.reason}"] += 1
                return
            else:
                self._judge(found[0].text.strip() if found else "nothing", number, allowed | self.expected)
                return
        self.searches["failed: no replica answers"] += 1

    def _judge(self, text: str, number: int, allowed: set[str]) -> None:
        models = {page(colour, number): model for model, colour in ANSWERS.items()}
        model = models.get(text)
        self.searches[f"by {model}" if model else "mixed"] += 1
        if model and model not in allowed:
            self.late.append(f"{text} by {model} where only {allowed} can be")

    async def upload_forever(self) -> None:
        number = 0
        while True:
            replica = self.replicas[number % 2]
            with suppress(Unavailable):
                where = await attached(replica.stub, f"load{number}.txt", f"load{number}z".encode(), self.store_id)
                self.uploads.append(where)
                number += 1
            await replica.up()
            await asyncio.sleep(0.05)

    async def read_counts(self, stub: Any) -> pb.FileCounts:
        request = pb.GetVectorStoreRequest(vector_store_id=self.store_id)
        counts: pb.FileCounts = (await stub.GetVectorStore(request)).vector_store.file_counts
        return counts

    async def until_any(self, ask: Any, condition: Any) -> Any:
        async def ask_one() -> Any:
            for replica in self.replicas:
                with suppress(Unavailable):
                    return await ask(replica.stub)
            raise Unavailable("no replica answers")

        return await until(ask_one, condition)


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_store_changes_its_model_under_load_and_kills_without_a_failed_or_a_mixed_search(
    service: ServiceRunner, database: Database, tenant_id: str
) -> None:
    settings = {
        "RETRIEVAL_EMBEDDING__MODELS": f'{{"{OTHER}": {DIMENSIONS[OTHER]}}}',
        "RETRIEVAL_STORE_MIGRATIONS__SEARCH_GRACE": "PT2S",
        "RETRIEVAL_INGESTION__LEASE": "PT2S",
        "RETRIEVAL_INGESTION__BATCH_SIZE": str(BATCH),
        "RETRIEVAL_INGESTION__SLOTS": str(SLOTS),
    }
    orchestrator = TwoModels()
    drill = Drill([Replica(service.replica(**settings)), Replica(service.replica(**settings))])
    async with (
        orchestrator.serve(service.orchestrator_port),
        running(*(replica.keep_running() for replica in drill.replicas)),
    ):
        for replica in drill.replicas:
            await replica.up()
        stub = drill.replicas[0].stub
        store = await stub.CreateVectorStore(pb.CreateVectorStoreRequest(name="drill"))
        drill.store_id = store.vector_store.vector_store_id
        for colour in ANSWERS.values():
            pdf = documents.a_pdf(*(page(colour, number) for number in range(PAGES)))
            attachment = await finished(stub, await attached(stub, f"{colour}.pdf", pdf, drill.store_id))
            assert attachment.chunks == PAGES
        orchestrator.seconds = 0.05
        searchers = [drill.search_forever(seed) for seed in range(SEARCHERS)]
        async with running(*searchers, drill.upload_forever()):
            reports = [await change(drill, orchestrator, model) for model in CHANGES]
        counts = await drill.until_any(drill.read_counts, lambda it: not it.in_progress)
        assert counts.failed == 0
        assert counts.completed >= 2 + len(drill.uploads), "a file is attached before its client knows"
    for model in DIMENSIONS:
        orchestrator.forget(model)
    kills = sum(replica.kills for replica in drill.replicas)
    sys.stdout.write(
        f"searches {dict(drill.searches)}, asked again after a kill {drill.asked_again}, kills {kills},"
        f" files meanwhile {len(drill.uploads)}, paid twice {orchestrator.twice}, migrations {reports}\n"
    )
    assert {outcome for outcome in drill.searches if not outcome.startswith("by ")} == set()
    assert set(drill.searches) == {f"by {OWN}", f"by {OTHER}"}
    assert drill.late == []
    # Each text is paid for once for each model that it has a vector of. A kill costs a batch of the migration, and the
    # files that are being ingested, which are short.
    assert orchestrator.twice <= kills * 2 * (BATCH + SLOTS)
    assert await vectors_of(database, drill.store_id) == {CHANGES[-1]: 2 * PAGES + counts.completed - 2}


async def change(drill: Drill, orchestrator: TwoModels, model: str) -> str:
    """Change the store to the model, kill its processes meanwhile, and wait until the old vectors are deleted."""
    [before] = drill.expected
    drill.expected.add(model)
    orchestrator.forget(model)
    paid = orchestrator.paid(model)
    start = pb.StartStoreMigrationRequest(vector_store_id=drill.store_id, embedding_model=model)
    migration = (await drill.until_any(lambda stub: stub.StartStoreMigration(start), lambda _: True)).migration
    for kill in range(KILLS):
        await orchestrator.until_paid(model, paid + (kill + 1) * 2 * PAGES // (KILLS + 2))
        await drill.replicas[kill % 2].kill()
    ask = pb.GetStoreMigrationRequest(vector_store_id=drill.store_id, migration_id=migration.migration_id)

    async def read(stub: Any) -> Any:
        return (await stub.GetStoreMigration(ask)).migration

    await drill.until_any(read, lambda it: it.state == pb.STORE_MIGRATION_STATE_COMPLETED)
    drill.expected.discard(before)
    done = await drill.until_any(read, lambda it: it.unused_vectors_deleted)
    assert done.migrated_chunks == done.chunks
    return f"to {model}: {done.embedded_chunks} embedded, {done.reused_chunks} reused"


async def vectors_of(database: Database, store_id: str) -> dict[str, int]:
    """How many vectors the store has, by the model of their space; empty for a space that is not the store's."""
    async with database.system() as connection:
        rows = await connection.fetch(
            "SELECT coalesce(s.embedding_model, '') AS model, count(*) AS vectors FROM ("
            " SELECT space, vector_store_id FROM chunk_vectors WHERE vector_store_id = $1 UNION ALL"
            " SELECT 0, vector_store_id FROM chunks WHERE vector_store_id = $1 AND embedding IS NOT NULL"
            ") AS v LEFT JOIN vector_stores s USING (vector_store_id, space) GROUP BY 1",
            store_id,
        )
    return {row["model"]: row["vectors"] for row in rows}
