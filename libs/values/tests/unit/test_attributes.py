"""Attributes and filters: what is allowed, and the way over the wire."""

from __future__ import annotations

import re
from typing import Any

import pytest
from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest
from values import attributes
from values.attribute_protos import attributes_to_proto, filter_to_proto, proto_to_attributes, proto_to_filter
from values.attributes import (
    MAX_FILTER_DEPTH,
    MAX_FILTER_VALUES,
    AttributeValue,
    Comparison,
    Filter,
    Group,
    Operator,
    check_attributes,
    to_filter,
)

YEAR = {"type": "gt", "key": "year", "value": 2023}


def grouped(levels: int) -> dict[str, Any]:
    raw: dict[str, Any] = YEAR
    for _ in range(levels):
        raw = {"type": "or", "filters": [raw]}
    return raw


def test_a_filter_is_read_as_it_is_written() -> None:
    raw = {"type": "and", "filters": [YEAR, {"type": "nin", "key": "author", "value": ["Ada", 1, 0.5, True]}]}

    assert to_filter(raw) == Group(
        True,
        (
            Comparison("year", Operator.GT, (2023,)),
            Comparison("author", Operator.NIN, ("Ada", 1, 0.5, True)),
        ),
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "filters must be an object"),
        ([YEAR], "filters must be an object"),
        ({}, "filters.type must be one of and, or, eq,"),
        ({"type": ["eq"]}, "filters.type must be one of"),
        ({"type": "EQ", "key": "a", "value": 1}, "filters.type must be one of"),
        ({"type": "eq", "value": 1}, "filters.key must be a string of 1 to 64"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key must"),
        ({"type": "eq", "key": "k" * 65, "value": 1}, "filters.key must"),
        ({"type": "eq", "key": "a\0", "value": 1}, "filters.key must"),
        ({"type": "eq", "key": "a\ud800", "value": 1}, "filters.key must"),
        ({"type": "eq", "key": 1, "value": 1}, "filters.key must"),
        ({"type": "eq", "key": "a"}, "filters.value must be a string"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value must"),
        ({"type": "eq", "key": "a", "value": [1]}, "filters.value must be a string, a number, true or false for eq"),
        ({"type": "eq", "key": "a", "value": {"$ne": 1}}, "filters.value must"),
        ({"type": "eq", "key": "a", "value": "v" * 513}, "filters.value must have at most 512"),
        ({"type": "eq", "key": "a", "value": "\0"}, "filters.value must"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "filters.value must"),
        ({"type": "eq", "key": "a", "value": float("inf")}, "filters.value must"),
        ({"type": "eq", "key": "a", "value": 10**400}, "filters.value must"),
        ({"type": "in", "key": "a", "value": 1}, "filters.value must be a list for in"),
        ({"type": "in", "key": "a", "value": [[1]]}, "filters.value must"),
        ({"type": "in", "key": "a", "value": [None]}, "filters.value must"),
        ({"type": "gt", "key": "a", "value": True}, "true and false have no order"),
        ({"type": "eq", "key": "a", "value": 1, "negate": True}, "filters.negate is not known"),
        ({"type": "and"}, "filters.filters must be a list"),
        ({"type": "or", "filters": []}, "filters.filters must not be empty"),
        ({"type": "and", "filters": [YEAR, {"type": "x"}]}, "filters.filters[1].type must be one of"),
        ({"type": "and", "filters": [YEAR] * (MAX_FILTER_VALUES + 1)}, "filters.filters must be a list of at most"),
        ({"type": "in", "key": "a", "value": list(range(MAX_FILTER_VALUES + 1))}, "1000 values in all"),
        ({"type": "and", "filters": [{"type": "in", "key": "a", "value": list(range(501))}] * 2}, "1000 values in all"),
        (grouped(MAX_FILTER_DEPTH + 1), "8 levels"),
        (grouped(500), "8 levels"),
    ],
)
def test_a_filter_that_cannot_be_honoured_is_refused(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        to_filter(raw)


@pytest.mark.parametrize(
    "raw",
    [
        YEAR,
        grouped(MAX_FILTER_DEPTH),
        {"type": "in", "key": "a", "value": []},
        {"type": "in", "key": "a", "value": list(range(MAX_FILTER_VALUES))},
        {"type": "eq", "key": "a' OR '1'='1", "value": "'; --"},
        {"type": "lte", "key": "a", "value": "2024-01-31"},
    ],
)
def test_a_filter_comes_back_from_the_wire(raw: object) -> None:
    given = to_filter(raw)

    assert proto_to_filter(pb.AttributeFilter.FromString(filter_to_proto(given).SerializeToString())) == given


@pytest.mark.parametrize(
    "message",
    [
        pb.AttributeFilter(),
        pb.AttributeFilter(all=pb.AttributeFilters()),
        pb.AttributeFilter(comparison=pb.AttributeComparison(key="a", values=[pb.AttributeValue(integer=1)])),
        pb.AttributeFilter(comparison=pb.AttributeComparison(key="a", operator=pb.ATTRIBUTE_OPERATOR_EQ)),
        pb.AttributeFilter(
            comparison=pb.AttributeComparison(
                key="a", operator=pb.ATTRIBUTE_OPERATOR_IN, values=[pb.AttributeValue(), pb.AttributeValue(integer=1)]
            )
        ),
        filter_to_proto(Group(True, (Comparison("a", Operator.EQ, ("a\0",)),))),
    ],
)
def test_a_filter_of_the_wire_that_is_not_understood_is_refused(message: pb.AttributeFilter) -> None:
    with pytest.raises(InvalidRequest) as refused:
        proto_to_filter(message)

    assert refused.value.param == "filters"


def test_a_filter_of_the_wire_that_is_too_deep_is_refused() -> None:
    deep: Filter = Comparison("a", Operator.EQ, (1,))
    for _ in range(MAX_FILTER_DEPTH + 1):
        deep = Group(True, (deep,))

    with pytest.raises(InvalidRequest):
        proto_to_filter(filter_to_proto(deep))


def test_attributes_come_back_from_the_wire_with_their_types() -> None:
    given: dict[str, AttributeValue] = {"text": "ü", "whole": 2**63 - 1, "number": 0.5, "no": False}

    read = proto_to_attributes(attributes_to_proto(given))

    assert {key: (type(value), value) for key, value in read.items()} == {
        key: (type(value), value) for key, value in given.items()
    }


def test_a_number_beyond_64_bits_is_a_float() -> None:
    assert check_attributes({"n": 2**64}) == {"n": float(2**64)}
    assert isinstance(check_attributes({"n": 2**64})["n"], float)


def test_a_filter_that_is_much_too_large_is_refused_before_its_parts_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unexpected(*_: object) -> None:
        raise AssertionError("a part was checked")

    monkeypatch.setattr(attributes, "to_comparison", unexpected)
    one = {"type": "eq", "key": "a", "value": 1}
    group = {"type": "and", "filters": [one] * MAX_FILTER_VALUES}
    for large in (
        {"type": "or", "filters": [group] * 300},
        {"type": "in", "key": "a", "value": [1] * 3_000},
        {"type": "or", "filters": [{"type": "nin", "key": "a", "value": [1] * 900}] * 3},
    ):
        with pytest.raises(ValueError, match="in all"):
            to_filter(large)
