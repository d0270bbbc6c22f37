"""Usage events as messages."""

from argosy.metering.v1.events_pb2 import AttemptUsage as AttemptUsageMessage
from argosy.metering.v1.events_pb2 import CacheUse as CacheUseMessage
from argosy.metering.v1.events_pb2 import HitsRecorded, UsageRecorded
from google.protobuf.timestamp_pb2 import Timestamp
from values.protos import cache_outcome_to_proto, exposure_cause_to_proto, usage_to_proto

from orchestrator.usage.model import AttemptUsage, CacheUse, Hits, RequestUsage


def request_usage_to_proto(usage: RequestUsage, occurred_at: Timestamp) -> UsageRecorded:
    event = UsageRecorded(request_id=usage.request_id, key_id=usage.key_id, project_id=usage.project_id)
    event.meta.event_id, event.meta.tenant_id = usage.event_id, usage.tenant_id
    event.meta.occurred_at.CopyFrom(occurred_at)
    for one in usage.attempts:
        attempt_usage_to_proto(one, event.attempts.add())
    if usage.cache is not None:
        _cache_use_to_proto(usage.cache, event.cache)
    if usage.right_sizing is not None:
        model, alternative, attempts, answer = usage.right_sizing
        sizing = event.right_sizing
        sizing.model, sizing.price_key, sizing.price_version = model, alternative.key, alternative.version
        sizing.attempts.extend(attempts)
        sizing.answer = answer
    return event


def hits_to_proto(together: Hits, occurred_at: Timestamp) -> HitsRecorded:
    """Make the event of hits that have one attempt each: an answer that several requests got is written once."""
    event = HitsRecorded()
    event.meta.event_id, event.meta.tenant_id = together.event_id, together.tenant_id
    event.meta.occurred_at.CopyFrom(occurred_at)
    places: dict[tuple[tuple[AttemptUsage, ...], CacheUse | None], int] = {}
    for hit in together.hits:
        answer = (hit.attempts, hit.cache)
        place = places.get(answer)
        if place is None:
            place = places[answer] = len(places)
            added = event.answers.add()
            attempt_usage_to_proto(hit.attempts[0], added.attempt)
            if hit.cache is not None:
                _cache_use_to_proto(hit.cache, added.cache)
        event.hits.add(request_id=hit.request_id, answer=place, key_id=hit.key_id, project_id=hit.project_id)
    return event


def _cache_use_to_proto(use: CacheUse, message: CacheUseMessage) -> None:
    message.outcome = cache_outcome_to_proto(use.outcome)
    message.model, message.attempt = use.model, use.attempt


def attempt_usage_to_proto(attempt: AttemptUsage, message: AttemptUsageMessage) -> None:
    """Fill a message in place."""
    message.attempt = attempt.number
    message.price_key, message.price_version = attempt.price.key, attempt.price.version
    usage_to_proto(attempt.usage, message.usage)
    if attempt.exposure_cause is not None:
        message.exposure_cause = exposure_cause_to_proto(attempt.exposure_cause)
