"""Usage events as messages."""

from argosy.metering.v1.events_pb2 import UsageRecorded
from google.protobuf.timestamp_pb2 import Timestamp
from values.protos import usage_to_proto

from orchestrator.usage.model import RequestUsage


def request_usage_to_proto(usage: RequestUsage, occurred_at: Timestamp) -> UsageRecorded:
    event = UsageRecorded(request_id=usage.request_id, key_id=usage.key_id, project_id=usage.project_id)
    event.meta.event_id, event.meta.tenant_id = usage.event_id, usage.tenant_id
    event.meta.occurred_at.CopyFrom(occurred_at)
    for one in usage.attempts:
        attempt = event.attempts.add(attempt=one.number, price_key=one.price.key, price_version=one.price.version)
        usage_to_proto(one.usage, attempt.usage)
    return event
