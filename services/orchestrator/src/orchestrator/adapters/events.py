"""What the orchestrator tells the fleet."""

from argosy.common.v1.common_pb2 import EventMeta
from argosy.metering.v1.events_pb2 import AttemptUsage, UsageRecorded
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.adapters.mapping import to_proto_usage
from orchestrator.domain.usage import RequestUsage

USAGE_RECORDED = "argosy.metering.usage-recorded.v1"


def usage_recorded(usage: RequestUsage, occurred_at: Timestamp) -> UsageRecorded:
    """Say what a request used; it settles the request's reservation."""
    return UsageRecorded(
        meta=EventMeta(event_id=usage.event_id, tenant_id=usage.tenant_id, occurred_at=occurred_at),
        request_id=usage.request_id,
        attempts=[
            AttemptUsage(
                attempt=attempt.number,
                price_key=attempt.price_key,
                price_version=attempt.price_version,
                usage=to_proto_usage(attempt.usage),
            )
            for attempt in usage.attempts
        ],
        key_id=usage.key_id,
        project_id=usage.project_id,
    )
