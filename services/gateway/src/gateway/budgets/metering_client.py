"""What several peers say the same way, from and to the domain."""

from argosy.common.v1 import common_pb2

from gateway.domain.inference import Tokens
from gateway.domain.money import NanoUsd


def from_proto_tokens(usage: common_pb2.TokenUsage) -> Tokens:
    """Read counts; an absent one is unknown."""
    return Tokens(
        usage.input_tokens if usage.HasField("input_tokens") else None,
        usage.output_tokens if usage.HasField("output_tokens") else None,
    )


def to_proto_money(amount: NanoUsd) -> common_pb2.Money:
    """Write an amount."""
    return common_pb2.Money(nano_usd=amount)
