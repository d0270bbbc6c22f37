"""Files of batches, in retrieval."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from orchestrator.batches.model import OUTPUT_PURPOSE
from orchestrator.batches.ports import InputFile

CALL_TIMEOUT = timedelta(seconds=10)
TRANSFER_TIMEOUT = timedelta(minutes=30)
PIECE_BYTES = 256 * 1024


class GrpcFileStore:
    """Implements FileStore."""

    def __init__(self, channel: Channel, signer: PrincipalSigner) -> None:
        self._stub = RetrievalServiceStub(channel)
        self._signer = signer

    async def find(self, principal: Principal, file_id: str) -> InputFile:
        with self._as(principal):
            request = pb.GetFileRequest(file_id=file_id)
            file = (await self._stub.GetFile(request, timeout=CALL_TIMEOUT.total_seconds())).file
        return InputFile(file.file_id, file.purpose, file.bytes)

    async def download(self, principal: Principal, file_id: str) -> AsyncGenerator[bytes, None]:
        with self._as(principal):
            call = self._stub.DownloadFile(
                pb.DownloadFileRequest(file_id=file_id), timeout=TRANSFER_TIMEOUT.total_seconds()
            )
        try:
            async for message in call:
                yield message.data
        finally:
            call.cancel()  # does nothing when the call is over

    async def upload(self, principal: Principal, file_id: str, filename: str, content: AsyncIterator[bytes]) -> None:
        with self._as(principal):
            call = self._stub.UploadFile(timeout=TRANSFER_TIMEOUT.total_seconds())
        try:
            metadata = pb.FileMetadata(filename=filename, purpose=OUTPUT_PURPOSE, file_id=file_id)
            await call.write(pb.UploadFileRequest(metadata=metadata))
            size_bytes = 0
            async for piece in _pieces(content):
                await call.write(pb.UploadFileRequest(data=piece))
                size_bytes += len(piece)
            await call.write(pb.UploadFileRequest(end=pb.UploadEnd(bytes=size_bytes)))
            await call.done_writing()
            await call
        finally:
            call.cancel()

    def _as(self, principal: Principal) -> Any:
        # Signed anew: the token of the request that made the batch is no longer valid.
        return as_caller(Caller(principal, self._signer.sign(principal), new_id("req_")))


async def _pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join lines to pieces, and cut long ones: a message for each line would cost more than the line."""
    pending = bytearray()
    async for line in content:
        pending += line
        while len(pending) >= PIECE_BYTES:
            yield bytes(pending[:PIECE_BYTES])
            del pending[:PIECE_BYTES]
    if pending:
        yield bytes(pending)
