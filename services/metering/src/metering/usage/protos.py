"""Costs by class as messages."""

from collections.abc import Iterable, Iterator

from argosy.metering.v1 import metering_pb2
from values.money import ClassCost
from values.protos import nano_usd_to_proto
from values.usage import TokenClass

_CLASS_TO_PROTO = {
    TokenClass.TEXT_INPUT: metering_pb2.TOKEN_CLASS_TEXT_INPUT,
    TokenClass.CACHED_INPUT: metering_pb2.TOKEN_CLASS_CACHED_INPUT,
    TokenClass.CACHE_WRITE: metering_pb2.TOKEN_CLASS_CACHE_WRITE,
    TokenClass.CACHE_WRITE_1H: metering_pb2.TOKEN_CLASS_CACHE_WRITE_1H,
    TokenClass.AUDIO_INPUT: metering_pb2.TOKEN_CLASS_AUDIO_INPUT,
    TokenClass.IMAGE_INPUT: metering_pb2.TOKEN_CLASS_IMAGE_INPUT,
    TokenClass.TEXT_OUTPUT: metering_pb2.TOKEN_CLASS_TEXT_OUTPUT,
    TokenClass.REASONING_OUTPUT: metering_pb2.TOKEN_CLASS_REASONING_OUTPUT,
    TokenClass.AUDIO_OUTPUT: metering_pb2.TOKEN_CLASS_AUDIO_OUTPUT,
}


def classes_to_protos(classes: Iterable[ClassCost]) -> Iterator[metering_pb2.ClassCost]:
    """Write each class."""
    for one in classes:
        cost = nano_usd_to_proto(one.cost)
        yield metering_pb2.ClassCost(token_class=_CLASS_TO_PROTO[one.token_class], tokens=one.tokens, cost=cost)
