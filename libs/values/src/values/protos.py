"""Between values and messages: those of `argosy.common.v1`, and protobuf's own durations and timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from argosy.common.v1 import common_pb2
from chassis.errors import ArgosyError, InvalidRequest, Kind, RemoteError
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from values.embeddings import EmbeddingInput
from values.money import NO_CLASS_PRICES, ClassPrices, NanoUsd
from values.usage import BillingUnit, CacheOutcome, ExposureCause, TokenDetails, TokenUsage, UsageSource

_PROTO_TO_SOURCE = {
    common_pb2.USAGE_SOURCE_REPORTED: UsageSource.REPORTED,
    common_pb2.USAGE_SOURCE_COUNTED: UsageSource.COUNTED,
}
_SOURCE_TO_PROTO = {
    UsageSource.REPORTED: common_pb2.USAGE_SOURCE_REPORTED,
    UsageSource.COUNTED: common_pb2.USAGE_SOURCE_COUNTED,
    UsageSource.UNKNOWN: common_pb2.USAGE_SOURCE_UNKNOWN,
}
_CAUSE_TO_PROTO = {
    None: common_pb2.EXPOSURE_CAUSE_UNSPECIFIED,
    ExposureCause.PROVIDER: common_pb2.EXPOSURE_CAUSE_PROVIDER,
    ExposureCause.CLIENT: common_pb2.EXPOSURE_CAUSE_CLIENT,
    ExposureCause.FLEET: common_pb2.EXPOSURE_CAUSE_FLEET,
}
_OUTCOME_TO_PROTO = {
    None: common_pb2.CACHE_OUTCOME_UNSPECIFIED,
    CacheOutcome.MISS: common_pb2.CACHE_OUTCOME_MISS,
    CacheOutcome.HIT: common_pb2.CACHE_OUTCOME_HIT,
    CacheOutcome.SEMANTIC: common_pb2.CACHE_OUTCOME_SEMANTIC,
    CacheOutcome.STALE: common_pb2.CACHE_OUTCOME_STALE,
}
_PROTO_TO_OUTCOME = {number: outcome for outcome, number in _OUTCOME_TO_PROTO.items()}
_PROTO_TO_CAUSE = {number: cause for cause, number in _CAUSE_TO_PROTO.items()}


def proto_to_billing_unit(unit: common_pb2.BillingUnit.ValueType) -> BillingUnit:
    """Read a unit; tokens when it is not said."""
    return BillingUnit.SEARCH_UNITS if unit == common_pb2.BILLING_UNIT_SEARCH_UNITS else BillingUnit.TOKENS


def billing_unit_to_proto(unit: BillingUnit) -> common_pb2.BillingUnit.ValueType:
    """Write a unit."""
    searches = unit is BillingUnit.SEARCH_UNITS
    return common_pb2.BILLING_UNIT_SEARCH_UNITS if searches else common_pb2.BILLING_UNIT_TOKENS


def proto_to_exposure_cause(cause: common_pb2.ExposureCause.ValueType) -> ExposureCause | None:
    """Read a cause; None when it is not said, or from a newer version of the wire."""
    return _PROTO_TO_CAUSE.get(cause)


def exposure_cause_to_proto(cause: ExposureCause | None) -> common_pb2.ExposureCause.ValueType:
    """Write a cause; None is not said."""
    return _CAUSE_TO_PROTO[cause]


def proto_to_cache_outcome(outcome: common_pb2.CacheOutcome.ValueType) -> CacheOutcome | None:
    """Read an outcome; None when the cache was not asked, or from a newer version of the wire."""
    return _PROTO_TO_OUTCOME.get(outcome)


def cache_outcome_to_proto(outcome: CacheOutcome | None) -> common_pb2.CacheOutcome.ValueType:
    """Write an outcome; None is not said."""
    return _OUTCOME_TO_PROTO[outcome]


def proto_to_usage(message: common_pb2.TokenUsage) -> TokenUsage:
    """Convert a usage; counts that are not set are unknown. Details are cut to what fits into the counts."""
    return TokenUsage(
        _PROTO_TO_SOURCE.get(message.source, UsageSource.UNKNOWN),
        message.input_tokens if message.HasField("input_tokens") else None,
        message.output_tokens if message.HasField("output_tokens") else None,
        _proto_to_details(message) if message.HasField("details") else None,
    )


def _proto_to_details(message: common_pb2.TokenUsage) -> TokenDetails | None:
    details = message.details
    return TokenDetails(
        details.cached_input_tokens,
        details.cache_write_tokens,
        details.cache_write_1h_tokens,
        details.audio_input_tokens,
        details.image_input_tokens,
        details.reasoning_output_tokens,
        details.audio_output_tokens,
    ).within(message.input_tokens, message.output_tokens)


def inputs_to_proto(inputs: Sequence[EmbeddingInput], message: Any) -> None:
    """Fill `inputs` or `token_inputs` of a request for embeddings."""
    for one in inputs:
        if isinstance(one, str):
            message.inputs.append(one)
        else:
            message.token_inputs.add(ids=one)


def proto_to_inputs(message: Any) -> tuple[EmbeddingInput, ...]:
    """Read the inputs of a request for embeddings. Raises `InvalidRequest` for texts and token ids in one request."""
    if not message.token_inputs:
        return tuple(message.inputs)
    if message.inputs:
        raise InvalidRequest("inputs are either texts or token ids", param="inputs")
    return tuple(tuple(one.ids) for one in message.token_inputs)


def usage_to_proto(usage: TokenUsage, message: common_pb2.TokenUsage) -> None:
    """Fill a message in place, which spares a copy. An absent count stays absent."""
    message.source = _SOURCE_TO_PROTO[usage.source]
    if usage.input_tokens is not None:
        message.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        message.output_tokens = usage.output_tokens
    if usage.details is not None:
        details = message.details
        (
            details.cached_input_tokens,
            details.cache_write_tokens,
            details.cache_write_1h_tokens,
            details.audio_input_tokens,
            details.image_input_tokens,
            details.reasoning_output_tokens,
            details.audio_output_tokens,
        ) = usage.details


def proto_to_nano_usd(message: common_pb2.Money) -> NanoUsd:
    """Read an amount."""
    return NanoUsd(message.nano_usd)


def nano_usd_to_proto(amount: NanoUsd) -> common_pb2.Money:
    """Write an amount."""
    return common_pb2.Money(nano_usd=amount)


def proto_to_class_prices(message: common_pb2.ClassPrices) -> ClassPrices | None:
    """Read prices of classes; None when none of them has its own."""
    given = {field.name: amount.nano_usd for field, amount in message.ListFields()}
    classes = ClassPrices(*(given.get(name) for name in ClassPrices._fields))
    return None if classes == NO_CLASS_PRICES else classes


def class_prices_to_proto(prices: ClassPrices, message: common_pb2.ClassPrices) -> None:
    """Fill a message in place. An explicit zero is a price."""
    for name, amount in zip(ClassPrices._fields, prices, strict=True):
        if amount is not None:
            getattr(message, name).nano_usd = amount


def error_to_proto(error: ArgosyError, message: common_pb2.Error) -> None:
    """Fill a message with all that a client may learn of an error."""
    message.kind = error.kind
    message.reason = error.reason
    message.message = error.message
    message.param = error.param or ""
    if error.retry_after is not None:
        message.retry_after.FromTimedelta(error.retry_after)


def proto_to_error(message: common_pb2.Error) -> RemoteError:
    """Read another service's error as it stands; a kind from a newer version of the wire is taken for `internal`."""
    try:
        kind = Kind(message.kind)
    except ValueError:
        kind = Kind.INTERNAL
    return RemoteError(
        kind,
        message.reason,
        message.message,
        param=message.param or None,
        retry_after=message.retry_after.ToTimedelta() if message.HasField("retry_after") else None,
    )


def duration_to_proto(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def proto_to_duration(message: Duration) -> timedelta:
    """Convert; nanoseconds are truncated to microseconds. Raises `OverflowError`."""
    # As `ToTimedelta`, at a third of its time.
    return timedelta(seconds=message.seconds, microseconds=int(message.nanos / 1000))


def timestamp_to_proto(value: datetime) -> Timestamp:
    """Convert. Raises `ValueError` for a time without a zone, which protobuf would take for UTC."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def proto_to_timestamp(message: Timestamp) -> datetime:
    """Convert to UTC; nanoseconds are truncated to microseconds."""
    return message.ToDatetime(tzinfo=UTC)
