"""The service as a process, on real Postgres and Kafka: it survives kills."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.clock import SystemClock
from chassis.errors import RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.kafka import ensure_topics, load_topics
from chassis.settings import KafkaConnection, PostgresSection
from chassis.tenancy import Caller, PrincipalSigner, PrincipalVerifier, as_caller, current_caller
from chassis.testing import SECRET, a_principal, free_port
from chassis.testing.grpc import serving_at

from services.retrieval.tests import documents
from services.retrieval.tests.texts import a_vector

TOPICS = Path(__file__).parents[4] / "proto" / "topics"
PAGES = [f"Page {n}. " + " ".join(f"The vessel{n}x{k} carries cargo{k}." for k in range(40)) for n in range(24)]
TIMEOUT_SECONDS = 60


@dataclass
class Orchestrator(orchestration_pb2_grpc.OrchestrationServiceServicer):
    """Embeds after a delay and records the texts and the principals."""

    Generate = ListModels = GetRequestStates = None  # type: ignore[assignment]  # not called

    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)
    principals: set[tuple[str, str]] = field(default_factory=set)

    Embed = None  # type: ignore[assignment]  # not called

    async def EmbedInPieces(self, message: Any, context: Any) -> Any:
        request = message.request
        await asyncio.sleep(self.seconds)
        self.texts += request.inputs
        principal = current_caller().principal
        self.principals.add((principal.tenant_id, principal.key_id))
        vectors = [orchestration_pb2.Vector(float32=a_vector(text)) for text in request.inputs]
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

    @asynccontextmanager
    async def run(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
        with (self.objects.parent / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "retrieval", env=self.environment, stdout=log, stderr=log
            )
        try:
            async with Channel(f"127.0.0.1:{self.port}", "retrieval") as channel:
                stub = RetrievalServiceStub(channel)
                await until(lambda: stub.ListFiles(pb.ListFilesRequest()), condition=lambda _: True)
                yield process, stub
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def service(section: PostgresSection, tmp_path: Path) -> ServiceRunner:
    kafka = os.environ["ARGOSY_KAFKA_BOOTSTRAP"]
    await ensure_topics(KafkaConnection(bootstrap=kafka), load_topics(TOPICS))
    port, orchestrator_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RETRIEVAL_")},
        "RETRIEVAL_POSTGRES__DSN": section.dsn.get_secret_value(),
        "RETRIEVAL_POSTGRES__POOLING": section.pooling,
        "RETRIEVAL_PRINCIPAL__SECRETS": SECRET,
        "RETRIEVAL_KAFKA__SIGNING_KEYS": f"key-1:{SECRET}",
        "RETRIEVAL_KAFKA__BOOTSTRAP": kafka,
        "RETRIEVAL_KAFKA__GROUP": new_id("retrieval-"),
        "RETRIEVAL_GRPC__BIND": f"127.0.0.1:{port}",
        "RETRIEVAL_OPS__PORT": "0",
        "RETRIEVAL_PEERS__ORCHESTRATOR": f"127.0.0.1:{orchestrator_port}",
        "RETRIEVAL_OBJECTS__URL": (tmp_path / "objects").as_uri(),
        "RETRIEVAL_INGESTION__BATCH_SIZE": "4",
        "RETRIEVAL_INGESTION__LEASE": "PT5S",
        "RETRIEVAL_INGESTION__POLL_INTERVAL": "PT0.5S",
        "RETRIEVAL_DELETIONS__SWEEP_INTERVAL": "PT0.2S",
    }
    return ServiceRunner(environment, port, orchestrator_port, tmp_path / "objects")


@pytest.fixture
def tenant_id() -> Any:
    """The tenant of all calls of the test."""
    principal = a_principal(new_id("ten_"))
    token = PrincipalSigner(SECRET, "tests", SystemClock()).sign(principal)
    with as_caller(Caller(principal, token, new_id("req_"))):
        yield principal.tenant_id


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


async def attached(stub: Any, filename: str, content: bytes) -> dict[str, str]:
    async def steps() -> AsyncIterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(metadata=pb.FileMetadata(filename=filename, purpose="assistants"))
        for start in range(0, len(content), 1_000_000):
            yield pb.UploadFileRequest(data=content[start : start + 1_000_000])
        yield pb.UploadFileRequest(end=pb.UploadEnd(bytes=len(content)))

    file = (await stub.UploadFile(steps())).file
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


async def test_an_uploaded_document_is_indexed_found_with_its_page_and_deleted(
    service: ServiceRunner, tenant_id: str
) -> None:
    orchestrator = Orchestrator()
    async with orchestrator.serve(service.orchestrator_port), service.run() as (process, stub):
        where = await attached(stub, "fleet.pdf", documents.a_pdf(*PAGES))
        attachment = await finished(stub, where)

        assert attachment.state == pb.ATTACHMENT_STATE_COMPLETED
        assert attachment.chunks == len(orchestrator.texts) > 24
        assert orchestrator.principals == {(tenant_id, "key_test")}
        best = (await searched(stub, where, "which cargo has vessel17x3?"))[0]
        assert (best.filename, best.page) == ("fleet.pdf", 18)
        assert "vessel17x3" in best.text

        await stub.DeleteFile(pb.DeleteFileRequest(file_id=where["file_id"]))
        assert await searched(stub, where, "vessel17x3") == []

        async def left() -> list[Path]:
            return [path for path in service.objects.rglob("*") if path.is_file()]

        await until(left, lambda paths: not paths)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_kill_in_the_middle_costs_a_batch_and_loses_nothing(service: ServiceRunner, tenant_id: str) -> None:
    orchestrator = Orchestrator(seconds=0.1)
    async with orchestrator.serve(service.orchestrator_port):
        async with service.run() as (process, stub):
            where = await attached(stub, "fleet.pdf", documents.a_pdf(*PAGES))
            while len(orchestrator.texts) < 12:
                await asyncio.sleep(0.02)
            process.kill()
        async with service.run() as (process, stub):
            while len(orchestrator.texts) < 28:
                await asyncio.sleep(0.02)
            process.kill()
        async with service.run() as (_, stub):
            attachment = await finished(stub, where)
            again = await finished(stub, await attached(stub, "copy.pdf", documents.a_pdf(*PAGES)))

            assert attachment.state == pb.ATTACHMENT_STATE_COMPLETED
            assert attachment.chunks == len(set(orchestrator.texts)) == again.chunks
            assert len(orchestrator.texts) <= attachment.chunks + 2 * 4
            assert {passage.page for passage in await searched(stub, where, "vessel23x39")} >= {24}


async def test_files_wait_for_an_unavailable_orchestrator_and_searches_fail(
    service: ServiceRunner, tenant_id: str
) -> None:
    orchestrator = Orchestrator()
    async with service.run() as (_, stub):
        async with orchestrator.serve(service.orchestrator_port):
            ready = await attached(stub, "ready.txt", b"Something to find.")
            assert (await finished(stub, ready)).state == pb.ATTACHMENT_STATE_COMPLETED
        where = await attached(stub, "fleet.pdf", documents.a_pdf(*PAGES[:2]))
        with pytest.raises(RemoteError) as away:
            await searched(stub, ready, "something")
        assert away.value.reason == "SERVICE_UNAVAILABLE"

        async with orchestrator.serve(service.orchestrator_port):
            assert (await finished(stub, where)).state == pb.ATTACHMENT_STATE_COMPLETED


async def test_harmful_documents_fail_and_the_next_is_indexed(service: ServiceRunner, tenant_id: str) -> None:
    async with Orchestrator().serve(service.orchestrator_port), service.run() as (process, stub):
        bad = {
            "a.exe": (b"MZ", "unsupported_file"),
            "wrong.pdf": (b"just text", "file_type_mismatch"),
            "locked.pdf": (documents.an_encrypted_pdf("secret"), "encrypted_file"),
            "cut.pdf": (documents.a_pdf(*PAGES)[:2_000], "unreadable_file"),
            "bomb.docx": (documents.a_docx_bomb(300), "file_expands_too_much"),
            "large.txt": (b"A line of text.\n" * (100 * 1024 * 1024 // 16), "file_too_large"),
            "scan.pdf": (documents.a_scanned_pdf(), "empty_file"),
        }
        attachments = {name: await attached(stub, name, content) for name, (content, _) in bad.items()}
        good = await attached(stub, "good.md", b"# All is well\n\nThis is found.")

        assert (await finished(stub, good)).state == pb.ATTACHMENT_STATE_COMPLETED
        for name, (_, reason) in bad.items():
            attachment = await finished(stub, attachments[name])
            assert (attachment.state, attachment.failure_reason) == (pb.ATTACHMENT_STATE_FAILED, reason), (
                name,
                attachment,
            )
            assert attachment.failure_message
        assert process.returncode is None
