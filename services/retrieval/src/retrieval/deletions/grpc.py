"""Method of RetrievalService about deletions. The tenant is the caller's."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from values.protos import timestamp_to_proto
from values.roles import current_member

from retrieval.deletions.report import DeletionRecords, DeletionReport, deletion_report
from retrieval.files.ports import ObjectStore


class DeletionMethods:
    def __init__(self, records: DeletionRecords, objects: ObjectStore) -> None:
        self._records = records
        self._objects = objects

    async def get(self, request: pb.GetDeletionReportRequest) -> pb.GetDeletionReportResponse:
        tenant_id = current_member().tenant_id
        report = await deletion_report(tenant_id, request.resource_id, records=self._records, objects=self._objects)
        return pb.GetDeletionReportResponse(report=deletion_report_to_proto(report))


def deletion_report_to_proto(report: DeletionReport) -> pb.DeletionReport:
    return pb.DeletionReport(
        resource_id=report.resource_id,
        deleted_at=timestamp_to_proto(report.deleted_at),
        checked_at=timestamp_to_proto(report.checked_at),
        complete=report.complete,
        records=report.remains.records,
        chunks=report.remains.chunks,
        vectors=report.remains.vectors,
        postings=report.remains.postings,
        objects=report.objects,
    )
