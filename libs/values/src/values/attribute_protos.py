"""Between attributes of files, filters over them, and messages of `argosy.retrieval.v1`."""

from __future__ import annotations

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest

from values.attributes import (
    Attributes,
    AttributeValue,
    Filter,
    Group,
    Operator,
    check_attributes,
    check_filter,
    to_comparison,
    to_group,
)

_OPERATOR_TO_PROTO = {
    Operator.EQ: pb.ATTRIBUTE_OPERATOR_EQ,
    Operator.NE: pb.ATTRIBUTE_OPERATOR_NE,
    Operator.GT: pb.ATTRIBUTE_OPERATOR_GT,
    Operator.GTE: pb.ATTRIBUTE_OPERATOR_GTE,
    Operator.LT: pb.ATTRIBUTE_OPERATOR_LT,
    Operator.LTE: pb.ATTRIBUTE_OPERATOR_LTE,
    Operator.IN: pb.ATTRIBUTE_OPERATOR_IN,
    Operator.NIN: pb.ATTRIBUTE_OPERATOR_NIN,
}
_PROTO_TO_OPERATOR = {proto: operator for operator, proto in _OPERATOR_TO_PROTO.items()}


def attributes_to_proto(attributes: Attributes) -> pb.Attributes:
    return pb.Attributes(values={key: _value_to_proto(value) for key, value in attributes.items()})


def proto_to_attributes(message: pb.Attributes) -> dict[str, AttributeValue]:
    """Raises InvalidRequest for attributes that cannot be stored."""
    try:
        return check_attributes({key: _proto_to_value(value) for key, value in message.values.items()})
    except ValueError as error:
        raise InvalidRequest(str(error), param="attributes") from error


def filter_to_proto(given: Filter) -> pb.AttributeFilter:
    if isinstance(given, Group):
        filters = pb.AttributeFilters(filters=map(filter_to_proto, given.filters))
        return pb.AttributeFilter(all=filters) if given.needs_all else pb.AttributeFilter(any=filters)
    comparison = pb.AttributeComparison(
        key=given.key, operator=_OPERATOR_TO_PROTO[given.operator], values=map(_value_to_proto, given.values)
    )
    return pb.AttributeFilter(comparison=comparison)


def proto_to_filter(message: pb.AttributeFilter) -> Filter:
    """Raises InvalidRequest, also for a filter of a newer version of the wire: to ignore it would let files through."""
    try:
        return check_filter(_proto_to_filter(message))
    except ValueError as error:
        raise InvalidRequest(str(error), param="filters") from error


def _proto_to_filter(message: pb.AttributeFilter) -> Filter:
    match message.WhichOneof("filter"):
        case "comparison":
            comparison = message.comparison
            operator = _PROTO_TO_OPERATOR.get(comparison.operator)
            if operator is None:
                raise ValueError(f"filters has an unknown operator {comparison.operator}")
            return to_comparison(comparison.key, operator, [_proto_to_value(value) for value in comparison.values])
        case "all":
            return to_group(True, [_proto_to_filter(part) for part in message.all.filters])
        case "any":
            return to_group(False, [_proto_to_filter(part) for part in message.any.filters])
        case _:
            raise ValueError("filters has a filter that is neither a comparison nor a group")


def _value_to_proto(value: AttributeValue) -> pb.AttributeValue:
    if isinstance(value, str):
        return pb.AttributeValue(text=value)
    if isinstance(value, bool):
        return pb.AttributeValue(boolean=value)
    if isinstance(value, int):
        return pb.AttributeValue(integer=value)
    return pb.AttributeValue(number=value)


def _proto_to_value(message: pb.AttributeValue) -> AttributeValue | None:
    """None for a value that is not there; the checks refuse it."""
    name = message.WhichOneof("value")
    value: AttributeValue | None = None if name is None else getattr(message, name)
    return value
