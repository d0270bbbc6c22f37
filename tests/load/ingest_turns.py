"""Files per second of two versions of retrieval, in turns: `make bench-ingest a="--before HEAD^"`.

Each version runs as a process on the Postgres and Kafka of the running fleet, with a database of its own, and is called
by gRPC. Vectors are made by this process, which stands for the orchestrator, at once: the times are those of retrieval
and of its stores, without the embedding model.
"""

import asyncio
import os
import random
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.clock import SystemClock
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.kafka import ensure_topics, load_topics
from chassis.settings import KafkaConnection
from chassis.tenancy import Caller, PrincipalSigner, PrincipalVerifier, as_caller
from chassis.testing import SECRET, a_principal, free_port
from chassis.testing.grpc import serving_at
from chassis.testing.postgres import scratch_database

from tests.fleet.environment import ROOT
from tests.load import versions

MIGRATIONS = Path("services/retrieval/src/retrieval/migrations")
VECTOR_BYTES = 384 * 4
TENANTS = 4
UPLOADS = 8


class Vectors(orchestration_pb2_grpc.OrchestrationServiceServicer):
    """Answers calls for embeddings at once, and counts them."""

    Generate = Rerank = ListModels = GetRequestStates = None  # type: ignore[assignment]  # not called

    def __init__(self) -> None:
        self.calls = 0

    async def Embed(self, request: Any, context: Any) -> Any:
        """Answer retrieval of a version that takes its vectors in one message."""
        return self._vectors(len(request.inputs))

    async def EmbedInPieces(self, message: Any, context: Any) -> Any:
        yield orchestration_pb2.EmbedInPiecesResponse(piece=self._vectors(len(message.request.inputs)))

    def _vectors(self, count: int) -> orchestration_pb2.EmbedResponse:
        self.calls += 1
        choose = random.Random(self.calls)
        vectors = [orchestration_pb2.Vector(float32=_a_vector(choose)) for _ in range(count)]
        return orchestration_pb2.EmbedResponse(vectors=vectors)


def _a_vector(choose: random.Random) -> bytes:
    """Small positive floats: bytes of any value would make infinities."""
    return bytes(value for _ in range(VECTOR_BYTES // 4) for value in (choose.randrange(256), 0, 0, 60))


@dataclass
class Version:
    """A version of retrieval with its database."""

    root: Path
    environment: dict[str, str]
    port: int
    files_per_second: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        """Run the service; yields its stub."""
        process = subprocess.Popen(
            [versions.interpreter(self.root), "-m", "retrieval"],
            env=self.environment,
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with Channel(f"127.0.0.1:{self.port}", "retrieval") as channel:
                yield RetrievalServiceStub(channel)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 60)


async def compare(before: str, files: int, rounds: int, *, dsn: str, kafka: str) -> None:
    """Measure both versions in turns and print the median of each, and the ratio."""
    os.environ["ARGOSY_POSTGRES_DSN"] = dsn
    await ensure_topics(KafkaConnection(bootstrap=kafka), load_topics(ROOT / "proto" / "topics"))
    orchestrator, port = Vectors(), free_port()
    add = orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server
    registration = (add, orchestrator, "argosy.orchestration.v1.OrchestrationService")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serving_at(f"127.0.0.1:{port}", [registration], PrincipalVerifier([SECRET], SystemClock()))
        )
        measured = [
            await stack.enter_async_context(_version(root, port, kafka)) for root in (versions.sources(before), ROOT)
        ]
        for number in range(rounds):
            for version in measured if number % 2 else reversed(measured):
                orchestrator.calls = 0
                async with version.running() as stub:
                    version.files_per_second.append(await _index(stub, files, seed=time.time_ns()))
                version.calls.append(orchestrator.calls)
    old, new = (_median(version.files_per_second) for version in measured)
    print(f"retrieval alone, {files} files of one chunk of {TENANTS} tenants, {rounds} turns of each version:")
    print(f"{new:.1f} files/s, before {old:.1f}, ratio {new / old:.2f}")
    print(f"calls for vectors: {_median(measured[1].calls):.0f}, before {_median(measured[0].calls):.0f}")


@asynccontextmanager
async def _version(root: Path, orchestrator_port: int, kafka: str) -> AsyncIterator[Version]:
    port = free_port()
    with tempfile.TemporaryDirectory() as objects:
        async with scratch_database(root / MIGRATIONS, "retrieval", extensions=("vector",)) as section:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("RETRIEVAL_")},
                "RETRIEVAL_POSTGRES__DSN": section.dsn.get_secret_value(),
                "RETRIEVAL_PRINCIPAL__SECRETS": SECRET,
                "RETRIEVAL_KAFKA__SIGNING_KEYS": f"key-1:{SECRET}",
                "RETRIEVAL_KAFKA__BOOTSTRAP": kafka,
                "RETRIEVAL_KAFKA__GROUP": new_id("retrieval-"),
                "RETRIEVAL_GRPC__BIND": f"127.0.0.1:{port}",
                "RETRIEVAL_OPS__PORT": "0",
                "RETRIEVAL_PEERS__ORCHESTRATOR": f"127.0.0.1:{orchestrator_port}",
                "RETRIEVAL_OBJECTS__URL": Path(objects).as_uri(),
            }
            yield Version(root, environment, port)


async def _index(stub: Any, files: int, seed: int) -> float:
    """Upload files as several tenants, attach all of them, and return how many are indexed in a second."""
    choose = random.Random(seed)
    tenants = [_Tenant(stub) for _ in range(TENANTS)]
    for tenant in tenants:
        await tenant.upload([_text(choose) for _ in range(files // TENANTS)])
    began = time.monotonic()
    await asyncio.gather(*(tenant.attach() for tenant in tenants))
    await asyncio.gather(*(tenant.indexed() for tenant in tenants))
    return files / (time.monotonic() - began)


def _text(choose: random.Random) -> bytes:
    """Some 60 words that occur in no other text."""
    return " ".join(f"vessel{choose.randrange(10**6)}" for _ in range(60)).encode()


class _Tenant:
    """A tenant with files to index."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        principal = a_principal(new_id("ten_"))
        token = PrincipalSigner(SECRET, "bench", SystemClock()).sign(principal)
        self._caller = Caller(principal, token, new_id("req_"))
        self._files: list[str] = []
        self._store = ""

    async def upload(self, texts: Sequence[bytes]) -> None:
        slots = asyncio.Semaphore(UPLOADS)
        with as_caller(self._caller):
            await self._ready()
            self._files = await asyncio.gather(*(self._upload(text, slots) for text in texts))

    async def attach(self) -> None:
        with as_caller(self._caller):
            created = await self._stub.CreateVectorStore(pb.CreateVectorStoreRequest(file_ids=self._files))
        self._store = created.vector_store.vector_store_id

    async def indexed(self) -> None:
        """Wait until all files are indexed. Exits when one has failed."""
        with as_caller(self._caller):
            while True:
                request = pb.GetVectorStoreRequest(vector_store_id=self._store)
                counts = (await self._stub.GetVectorStore(request)).vector_store.file_counts
                if counts.failed:
                    raise SystemExit(f"bench-ingest: {counts.failed} files failed")
                if not counts.in_progress:
                    return
                await asyncio.sleep(0.1)

    async def _ready(self) -> None:
        """Wait until the service answers."""
        async with asyncio.timeout(120):
            while True:
                try:
                    await self._stub.ListFiles(pb.ListFilesRequest())
                except Unavailable:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def _upload(self, text: bytes, slots: asyncio.Semaphore) -> str:
        async def parts() -> AsyncIterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(metadata=pb.FileMetadata(filename="a.txt", purpose="assistants"))
            yield pb.UploadFileRequest(data=text)
            yield pb.UploadFileRequest(end=pb.UploadEnd(bytes=len(text)))

        async with slots:
            return str((await self._stub.UploadFile(parts())).file.file_id)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
