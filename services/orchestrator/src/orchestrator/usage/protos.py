"""What the orchestrator tells the fleet."""

from argosy.metering.v1.events_pb2 import UsageRecorded
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.adapters.mapping import fill_proto_usage
from orchestrator.domain.usage import RequestUsage

USAGE_RECORDED = "argosy.metering.usage-recorded.v1"


def usage_recorded(usage: RequestUsage, occurred_at: Timestamp) -> UsageRecorded:
    """Say what a request used; it settles the request's reservation."""
    event = UsageRecorded(request_id=usage.request_id, key_id=usage.key_id, project_id=usage.project_id)
    event.meta.event_id, event.meta.tenant_id = usage.event_id, usage.tenant_id
    event.meta.occurred_at.CopyFrom(occurred_at)
    for one in usage.attempts:
        attempt = event.attempts.add(attempt=one.number, price_key=one.price_key, price_version=one.price_version)
        fill_proto_usage(attempt.usage, one.usage)
    return event
