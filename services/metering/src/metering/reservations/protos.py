"""Exposure causes as messages."""

from argosy.common.v1 import common_pb2
from values.protos import proto_to_exposure_cause
from values.usage import ExposureCause


def proto_to_cause(value: common_pb2.ExposureCause.ValueType) -> ExposureCause:
    """Read a cause; one that is not said, or of a newer version, is the provider's: the tenant does not pay for it."""
    return proto_to_exposure_cause(value) or ExposureCause.PROVIDER
