"""Exposure causes as messages."""

from argosy.common.v1 import common_pb2

from metering.reservations.model import ExposureCause

_PROTO_TO_CAUSE = {
    common_pb2.EXPOSURE_CAUSE_PROVIDER: ExposureCause.PROVIDER,
    common_pb2.EXPOSURE_CAUSE_CLIENT: ExposureCause.CLIENT,
    common_pb2.EXPOSURE_CAUSE_FLEET: ExposureCause.FLEET,
}
_CAUSE_TO_PROTO = {cause: value for value, cause in _PROTO_TO_CAUSE.items()}


def proto_to_cause(value: common_pb2.ExposureCause.ValueType) -> ExposureCause:
    """Read a cause; one that is not said, or of a newer version, is the provider's: the tenant does not pay for it."""
    return _PROTO_TO_CAUSE.get(value, ExposureCause.PROVIDER)


def cause_to_proto(cause: ExposureCause) -> common_pb2.ExposureCause.ValueType:
    return _CAUSE_TO_PROTO[cause]
