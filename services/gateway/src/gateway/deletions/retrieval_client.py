"""Reports of deletions, from retrieval over gRPC."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.deletions.schemas import DeletionReportRead, Remaining
from gateway.web.schemas import unix_seconds


class DeletionsClient:
    """Acts on behalf of the current caller. All calls raise retrieval's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def get(self, resource_id: str) -> DeletionReportRead:
        """Raises DELETION_NOT_FOUND."""
        response = await self._stub.GetDeletionReport(pb.GetDeletionReportRequest(resource_id=resource_id))
        return proto_to_deletion_report(response.report)


def proto_to_deletion_report(message: pb.DeletionReport) -> DeletionReportRead:
    return DeletionReportRead(
        id=message.resource_id,
        status="completed" if message.complete else "in_progress",
        deleted_at=unix_seconds(proto_to_timestamp(message.deleted_at)),
        checked_at=unix_seconds(proto_to_timestamp(message.checked_at)),
        remaining=Remaining(
            records=message.records,
            chunks=message.chunks,
            vectors=message.vectors,
            keywords=message.postings,
            objects=message.objects,
        ),
    )
