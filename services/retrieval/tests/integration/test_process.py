"""The service as a process, on real Postgres and Kafka: it survives kills."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import RemoteError

from services.retrieval.tests import documents
from services.retrieval.tests.integration.own_service import (
    Orchestrator,
    ServiceRunner,
    attached,
    finished,
    searched,
    until,
)

PAGES = [f"Page {n}. " + " ".join(f"The vessel{n}x{k} carries cargo{k}." for k in range(40)) for n in range(24)]


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
