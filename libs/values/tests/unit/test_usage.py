"""Sums of token usage, and their messages."""

from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2
from chassis.errors import Kind, RemoteError, Unavailable
from hypothesis import given
from hypothesis import strategies as st
from values.protos import error_to_proto, proto_to_error, proto_to_usage, usage_to_proto
from values.usage import TokenUsage, UsageSource, total_usage

tokens = st.integers(0, 10**10)
usages = st.builds(TokenUsage, st.sampled_from(UsageSource), st.none() | tokens, st.none() | tokens)


@given(st.lists(usages, max_size=5))
def test_a_sum_is_as_certain_as_its_least_certain_part(parts: list[TokenUsage]) -> None:
    complete = all(part.input_tokens is not None and part.output_tokens is not None for part in parts)
    sources = {part.source for part in parts}

    total = total_usage(parts)

    assert total.input_tokens == sum(part.input_tokens or 0 for part in parts)
    assert total.output_tokens == sum(part.output_tokens or 0 for part in parts)
    if not complete or UsageSource.UNKNOWN in sources:
        assert total.source is UsageSource.UNKNOWN
    elif UsageSource.COUNTED in sources:
        assert total.source is UsageSource.COUNTED
    else:
        assert total.source is UsageSource.REPORTED


@given(usages)
def test_a_usage_survives_its_message(usage: TokenUsage) -> None:
    message = common_pb2.TokenUsage()
    usage_to_proto(usage, message)

    assert proto_to_usage(common_pb2.TokenUsage.FromString(message.SerializeToString())) == usage


def test_an_empty_usage_message_is_unknown() -> None:
    assert proto_to_usage(common_pb2.TokenUsage()) == TokenUsage(UsageSource.UNKNOWN)


@pytest.mark.parametrize("retry_after", [None, timedelta(seconds=1.5)])
@pytest.mark.parametrize("param", [None, "messages[0]"])
def test_an_error_survives_its_message(param: str | None, retry_after: timedelta | None) -> None:
    error = Unavailable("metering does not answer", param=param, retry_after=retry_after)
    message = common_pb2.Error()
    error_to_proto(error, message)

    received = proto_to_error(common_pb2.Error.FromString(message.SerializeToString()))

    assert isinstance(received, RemoteError)
    assert (received.kind, received.reason, received.message) == (error.kind, error.reason, error.message)
    assert (received.param, received.retry_after) == (param, retry_after)


def test_a_kind_that_is_not_known_is_internal() -> None:
    assert proto_to_error(common_pb2.Error(kind="from the future", reason="X", message="x")).kind is Kind.INTERNAL
