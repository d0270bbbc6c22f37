"""Searches as one version of retrieval, in a process of its own, which tests/load/search.py starts.

Reads a line of JSON for each turn, [[tenant, store, query, vector], …], and answers with the milliseconds of each.
The embedding model is replaced by the vectors, so that times are those of retrieval and Postgres.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Self

import orjson
from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.tenancy import Caller, Principal, as_caller
from retrieval.chunking.token_counter import EstimatedTokenCounter
from retrieval.embeddings.model import Vector
from retrieval.search.grpc import SearchMethods
from retrieval.search.postgres import PostgresSearchIndex


class GivenVectors:
    """Implements Embedder for queries whose vectors are known."""

    model = "given"

    def __init__(self) -> None:
        self.known: dict[str, Vector] = {}

    def of(self, model: str) -> Self:
        """The one model."""
        return self

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [self.known[text] for text in texts]


async def run(section: PostgresSection) -> None:
    """Answer each line of standard input."""
    embedder = GivenVectors()
    async with Database(section, "retrieval") as database:
        methods = SearchMethods(PostgresSearchIndex(database), embedder, EstimatedTokenCounter())
        while line := await asyncio.to_thread(sys.stdin.readline):
            turn: list[tuple[str, str, str, str]] = orjson.loads(line)
            embedder.known.update((query, Vector(bytes.fromhex(vector))) for _, _, query, vector in turn)
            times = [await _search(methods, *search[:3]) for search in turn]
            sys.stdout.write(orjson.dumps(times).decode() + "\n")
            sys.stdout.flush()


async def _search(methods: SearchMethods, tenant_id: str, store: str, query: str) -> float:
    principal = Principal(tenant_id, project_id="prj", key_id="key", roles=frozenset({"member"}))
    with as_caller(Caller(principal, "", "req_bench")):
        began = time.perf_counter()
        found = await methods.search(pb.SearchRequest(vector_store_ids=[store], query=query))
        took = (time.perf_counter() - began) * 1000
    if not found.passages:
        raise SystemExit(f"search_run: nothing was found in {store}")
    return took


if __name__ == "__main__":
    asyncio.run(run(PostgresSection.model_validate_json(os.environ["BENCH_POSTGRES"])))
