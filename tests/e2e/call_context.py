"""Who makes a call of the comparison, and what there is to ask about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.tenancy import Principal, PrincipalSigner
from google.protobuf import message_factory
from google.protobuf.message import Message

from tests.contract.two_ways import by_grpc, methods
from tests.fleet import Fleet

METHODS = methods()
HOMES = {
    "identity": "gateway",
    "orchestration": "orchestrator",
    "inference": "inference-worker",
    "metering": "metering",
    "retrieval": "retrieval",
}
"""Which service serves a package."""
TEXT = b"The lighthouse keeper of Portsall repaired the lamp with a silver spoon.\n" * 3


def target_of(fleet: Fleet, path: str) -> str:
    """Where a method is served."""
    return fleet.grpc_target(HOMES[path.split(".")[1]])


@dataclass(slots=True)
class Scene:
    """One call that is about to be made, by a tenant of its own unless the case says another."""

    fleet: Fleet
    library: Library
    principal: Principal

    @classmethod
    def of(cls, fleet: Fleet, library: Library) -> Scene:
        """A scene with a tenant that nobody has heard of."""
        return cls(fleet, library, Principal(new_id("ten_"), "prj_two", "key_ways"))

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What says who calls."""
        token = PrincipalSigner(self.fleet.principal_secret, "gateway", SystemClock()).sign(self.principal)
        return [("argosy-principal", token)]

    async def ask(self, method: str, *requests: Message) -> Any:
        """Call a method with one response, which must go well: `scene.ask("GetFile", …)`."""
        (path,) = (path for path in METHODS if path.endswith(f"/{method}"))
        wire = [request.SerializeToString() for request in requests]
        outcome = await by_grpc(target_of(self.fleet, path), path, wire, self.metadata, 20)
        assert outcome.code == "OK", (path, outcome)
        return message_factory.GetMessageClass(METHODS[path].output_type).FromString(outcome.payloads[0])

    async def a_file(self, name: str = "keeper.txt") -> str:
        """Upload a file and return its id."""
        return str((await self.ask("UploadFile", *upload(name))).file.file_id)

    async def a_store(self, *files: str) -> str:
        """Make a vector store and return its id."""
        made = await self.ask("CreateVectorStore", retrieval.CreateVectorStoreRequest(name="two", file_ids=files))
        return str(made.vector_store.vector_store_id)


@dataclass(slots=True)
class Library:
    """A tenant with one file that is ready to be searched, made once."""

    principal: Principal
    tenant_id: str
    """A tenant that the gateway knows."""
    file_id: str = ""
    store_id: str = ""

    @classmethod
    async def build(cls, fleet: Fleet) -> Library:
        """Upload, attach, and wait for the index."""
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=30) as client:
            budget = (await client.get("/v1/budgets")).json()["data"][0]
        library = cls(Principal(new_id("ten_"), "prj_library", "key_library"), budget["tenant_id"])
        scene = Scene(fleet, library, library.principal)
        library.file_id = await scene.a_file()
        library.store_id = await scene.a_store(library.file_id)
        about = retrieval.GetAttachmentRequest(vector_store_id=library.store_id, file_id=library.file_id)
        async with asyncio.timeout(30):
            while (await scene.ask("GetAttachment", about)).attachment.state != retrieval.ATTACHMENT_STATE_COMPLETED:
                await asyncio.sleep(0.2)
        return library


def upload(name: str) -> list[Message]:
    """The requests of an upload."""
    return [
        retrieval.UploadFileRequest(description=retrieval.FileDescription(filename=name, purpose="assistants")),
        retrieval.UploadFileRequest(data=TEXT[:50]),
        retrieval.UploadFileRequest(data=TEXT[50:]),
        retrieval.UploadFileRequest(end=retrieval.UploadEnd(bytes=len(TEXT))),
    ]
