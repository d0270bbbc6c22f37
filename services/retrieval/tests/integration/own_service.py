"""The service as processes of a test, on real Postgres and Kafka, with an orchestrator that only embeds."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.clock import SystemClock
from chassis.errors import Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.settings import PostgresSection
from chassis.tenancy import PrincipalVerifier, current_caller
from chassis.testing import SECRET, free_port
from chassis.testing.grpc import serving_at

from services.retrieval.tests.texts import a_vector

TIMEOUT_SECONDS = 60


@dataclass
class Orchestrator(orchestration_pb2_grpc.OrchestrationServiceServicer):
    """Embeds after a delay and records the texts and the principals."""

    Generate = Rerank = ListModels = GetRequestStates = None  # type: ignore[assignment]  # not called

    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)
    principals: set[tuple[str, str]] = field(default_factory=set)

    def vector(self, model: str, text: str) -> bytes:
        """What the model makes of the text."""
        return a_vector(text)

    Embed = None  # type: ignore[assignment]  # not called

    async def EmbedInPieces(self, message: Any, context: Any) -> Any:
        request = message.request
        await asyncio.sleep(self.seconds)
        self.texts += request.inputs
        principal = current_caller().principal
        self.principals.add((principal.tenant_id, principal.key_id))
        vectors = [orchestration_pb2.Vector(float32=self.vector(request.model, text)) for text in request.inputs]
        piece = orchestration_pb2.EmbedResponse(vectors=vectors)
        yield orchestration_pb2.EmbedInPiecesResponse(piece=piece)

    @asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[None]:
        add = orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server
        verifier = PrincipalVerifier([SECRET], SystemClock())
        registration = (add, self, "argosy.orchestration.v1.OrchestrationService")
        async with serving_at(f"127.0.0.1:{port}", [registration], verifier):
            yield


@dataclass
class ServiceRunner:
    """Environment and ports of a service that can be started several times."""

    environment: dict[str, str]
    port: int
    orchestrator_port: int
    objects: Path

    def replica(self, **settings: str) -> ServiceRunner:
        """Another replica of the service, with some settings of its own."""
        port = free_port()
        environment = {**self.environment, "RETRIEVAL_GRPC__BIND": f"127.0.0.1:{port}", **settings}
        return replace(self, environment=environment, port=port)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process, which is killed at the end."""
        with (self.objects.parent / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "retrieval", env=self.environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """A client of the process, and of those that are started after it."""
        async with Channel(f"127.0.0.1:{self.port}", "retrieval") as channel:
            yield RetrievalServiceStub(channel)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
        """A process that is ready, and a client of it."""
        async with self.start() as process, self.connect() as stub:
            await until(lambda: stub.ListFiles(pb.ListFilesRequest()), condition=lambda _: True)
            yield process, stub


async def until(ask: Callable[[], Any], condition: Callable[[Any], bool]) -> Any:
    """Repeat a call until its result satisfies `condition`."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                if condition(answer := await ask()):
                    return answer
            except Unavailable:
                pass
            await asyncio.sleep(0.1)


async def attached(stub: Any, filename: str, content: bytes, vector_store_id: str = "") -> dict[str, str]:
    """Upload a file and put it into the store, or into a new one."""

    async def steps() -> AsyncIterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(metadata=pb.FileMetadata(filename=filename, purpose="assistants"))
        for start in range(0, len(content), 1_000_000):
            yield pb.UploadFileRequest(data=content[start : start + 1_000_000])
        yield pb.UploadFileRequest(end=pb.UploadEnd(bytes=len(content)))

    file = (await stub.UploadFile(steps())).file
    if vector_store_id:
        await stub.AttachFile(pb.AttachFileRequest(vector_store_id=vector_store_id, file_id=file.file_id))
        return {"vector_store_id": vector_store_id, "file_id": file.file_id}
    store = (await stub.CreateVectorStore(pb.CreateVectorStoreRequest(file_ids=[file.file_id]))).vector_store
    return {"vector_store_id": store.vector_store_id, "file_id": file.file_id}


async def finished(stub: Any, where: dict[str, str]) -> pb.Attachment:
    async def ask() -> Any:
        return (await stub.GetAttachment(pb.GetAttachmentRequest(**where))).attachment

    found: pb.Attachment = await until(ask, lambda it: it.state != pb.ATTACHMENT_STATE_IN_PROGRESS)
    return found


async def searched(stub: Any, where: dict[str, str], query: str) -> list[pb.Passage]:
    request = pb.SearchRequest(vector_store_ids=[where["vector_store_id"]], query=query, limit=3)
    return list((await stub.Search(request)).passages)


def service_runner(section: PostgresSection, folder: Path) -> ServiceRunner:
    """A service with a database, and objects in the folder. Nothing runs yet."""
    port, orchestrator_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RETRIEVAL_")},
        "RETRIEVAL_POSTGRES__DSN": section.dsn.get_secret_value(),
        "RETRIEVAL_POSTGRES__POOLING": section.pooling,
        "RETRIEVAL_PRINCIPAL__SECRETS": SECRET,
        "RETRIEVAL_KAFKA__SIGNING_KEYS": f"key-1:{SECRET}",
        "RETRIEVAL_KAFKA__BOOTSTRAP": os.environ["ARGOSY_KAFKA_BOOTSTRAP"],
        "RETRIEVAL_KAFKA__GROUP": new_id("retrieval-"),
        "RETRIEVAL_GRPC__BIND": f"127.0.0.1:{port}",
        "RETRIEVAL_OPS__PORT": "0",
        "RETRIEVAL_PEERS__ORCHESTRATOR": f"127.0.0.1:{orchestrator_port}",
        "RETRIEVAL_OBJECTS__URL": (folder / "objects").as_uri(),
        "RETRIEVAL_INGESTION__BATCH_SIZE": "4",
        "RETRIEVAL_INGESTION__LEASE": "PT5S",
        "RETRIEVAL_INGESTION__POLL_INTERVAL": "PT0.5S",
        "RETRIEVAL_DELETIONS__SWEEP_INTERVAL": "PT0.2S",
    }
    return ServiceRunner(environment, port, orchestrator_port, folder / "objects")
