"""Sums of token usage, and their messages."""

from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2
from chassis.errors import Kind, RemoteError, Unavailable
from hypothesis import given
from hypothesis import strategies as st
from values.money import ClassPrices, NanoUsd
from values.protos import (
    class_prices_to_proto,
    error_to_proto,
    proto_to_class_prices,
    proto_to_error,
    proto_to_usage,
    usage_to_proto,
)
from values.usage import TokenDetails, TokenUsage, UsageSource, total_usage

tokens = st.integers(0, 10**10)
usages = st.builds(
    lambda source, read, written, found: TokenUsage(source, read, written, found.within(read or 0, written or 0)),
    st.sampled_from(UsageSource),
    st.none() | tokens,
    st.none() | tokens,
    st.builds(TokenDetails, *(tokens for _ in TokenDetails._fields)),
)


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


def test_details_that_do_not_fit_are_cut_on_arrival() -> None:
    message = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=5, output_tokens=0)
    message.details.cached_input_tokens, message.details.audio_input_tokens = 4, 4
    message.details.reasoning_output_tokens = 7

    assert proto_to_usage(message) == TokenUsage(UsageSource.REPORTED, 5, 0, TokenDetails(4, audio_input=1))


def test_prices_of_classes_survive_their_message() -> None:
    prices = ClassPrices(cached_input=NanoUsd(0), audio_output=NanoUsd(7))
    message = common_pb2.ClassPrices()
    class_prices_to_proto(prices, message)

    assert proto_to_class_prices(common_pb2.ClassPrices.FromString(message.SerializeToString())) == prices
    assert proto_to_class_prices(common_pb2.ClassPrices()) is None


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
