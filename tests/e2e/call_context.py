"""The caller, the tenant and the files of a call in the comparison of transports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from argosy.retrieval.v1 import retrieval_pb2
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.tenancy import Principal, PrincipalSigner
from google.protobuf import message_factory
from google.protobuf.message import Message

from tests.contract.transports import call_by_grpc, methods
from tests.fleet.client import Fleet
from tests.fleet.environment import MODEL_WITHOUT_ROUTE

METHODS = methods()
SERVICE_OF_PACKAGE = {
    "orchestration": "orchestrator",
    "inference": "inference-worker",
    "metering": "metering",
    "retrieval": "retrieval",
}
TEXT = b"The lighthouse keeper of Portsall repaired the lamp with a silver spoon.\n" * 3


def target_of(fleet: Fleet, path: str) -> str:
    """The address of the service that has a method."""
    return fleet.grpc_target(SERVICE_OF_PACKAGE[path.split(".")[1]])


@dataclass(slots=True)
class CallContext:
    """The circumstances of one call; its tenant is a new one unless the case changes it."""

    fleet: Fleet
    searchable: SearchableTenant
    principal: Principal

    @classmethod
    def new(cls, fleet: Fleet, searchable: SearchableTenant) -> CallContext:
        """A context with a new tenant."""
        return cls(fleet, searchable, Principal(new_id("ten_"), "prj_two", "key_ways", roles=frozenset({"member"})))

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """The metadata that authenticates the caller."""
        token = PrincipalSigner(self.fleet.principal_secret, "gateway", SystemClock()).sign(self.principal)
        return [("argosy-principal", token)]

    async def call(self, method: str, *requests: Message) -> Any:
        """Call a method with one response, which must succeed: `context.call("GetFile", …)`."""
        (path,) = (path for path in METHODS if path.endswith(f"/{method}"))
        payloads = [request.SerializeToString() for request in requests]
        outcome = await call_by_grpc(target_of(self.fleet, path), path, payloads, self.metadata, 20)
        assert outcome.code == "OK", (path, outcome)
        return message_factory.GetMessageClass(METHODS[path].output_type).FromString(outcome.payloads[0])

    async def add_file(self, name: str = "keeper.txt") -> str:
        """Upload a file and return its id."""
        return str((await self.call("UploadFile", *upload(name))).file.file_id)

    async def add_store(self, *files: str) -> str:
        """Create a vector store and return its id."""
        request = retrieval_pb2.CreateVectorStoreRequest(name="two", file_ids=files)
        return str((await self.call("CreateVectorStore", request)).vector_store.vector_store_id)

    async def add_file_batch(self) -> tuple[str, str]:
        """Make a batch of the file that is indexed, so that its counts do not change; the ids of store and batch."""
        self.principal, store_id = self.searchable.principal, self.searchable.store_id
        request = retrieval_pb2.CreateFileBatchRequest(vector_store_id=store_id, file_ids=[self.searchable.file_id])
        return store_id, str((await self.call("CreateFileBatch", request)).file_batch.batch_id)

    async def add_store_migration(self) -> tuple[str, str]:
        """Start a migration that makes no progress, and give it up; the ids of store and migration."""
        self.principal, store_id = self.searchable.principal, self.searchable.store_id
        start = retrieval_pb2.StartStoreMigrationRequest(vector_store_id=store_id, embedding_model=MODEL_WITHOUT_ROUTE)
        migration_id = str((await self.call("StartStoreMigration", start)).migration.migration_id)
        cancel = retrieval_pb2.CancelStoreMigrationRequest(vector_store_id=store_id, migration_id=migration_id)
        await self.call("CancelStoreMigration", cancel)
        return store_id, migration_id


@dataclass(slots=True)
class SearchableTenant:
    """A tenant with one indexed file, built once."""

    principal: Principal
    file_id: str = ""
    store_id: str = ""

    @classmethod
    async def build(cls, fleet: Fleet) -> SearchableTenant:
        """Upload and attach the file, and wait until it is indexed."""
        tenant = cls(Principal(new_id("ten_"), "prj_library", "key_library", roles=frozenset({"member"})))
        context = CallContext(fleet, tenant, tenant.principal)
        tenant.file_id = await context.add_file()
        tenant.store_id = await context.add_store(tenant.file_id)
        request = retrieval_pb2.GetAttachmentRequest(vector_store_id=tenant.store_id, file_id=tenant.file_id)
        completed = retrieval_pb2.ATTACHMENT_STATE_COMPLETED
        async with asyncio.timeout(30):
            while (await context.call("GetAttachment", request)).attachment.state != completed:
                await asyncio.sleep(0.2)
        return tenant


def upload(name: str) -> list[Message]:
    """The requests of an upload."""
    return [
        retrieval_pb2.UploadFileRequest(metadata=retrieval_pb2.FileMetadata(filename=name, purpose="assistants")),
        retrieval_pb2.UploadFileRequest(data=TEXT[:50]),
        retrieval_pb2.UploadFileRequest(data=TEXT[50:]),
        retrieval_pb2.UploadFileRequest(end=retrieval_pb2.UploadEnd(bytes=len(TEXT))),
    ]
