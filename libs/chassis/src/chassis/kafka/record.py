"""Records of topics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from chassis.errors import ArgosyError, Kind

DEAD_LETTERS = ".dlq"
ERROR_HEADER: Final = "argosy-error"
"""Why a record became a dead letter."""
PARTITION_HEADER: Final = "argosy-partition"
OFFSET_HEADER: Final = "argosy-offset"
REPLAYS_HEADER: Final = "argosy-replays"
"""How often a record was replayed from the dead letters."""


class Undecodable(ArgosyError, public=False):
    """The record cannot be decoded as its topic's message, so it goes to the dead-letter topic."""

    kind, reason = Kind.INVALID, "UNDECODABLE"


NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Record(NamedTuple):
    """One record of a topic; `headers` carry the trace context. Partition and offset are -1 until it is published."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, str] = NO_HEADERS
    partition: int = -1
    offset: int = -1

    @classmethod
    def from_kafka(cls, record: Any) -> Self:
        headers = {name: value.decode(errors="surrogateescape") for name, value in record.headers}
        return cls(record.topic, record.key or b"", record.value or b"", headers, record.partition, record.offset)

    @property
    def kafka_headers(self) -> list[tuple[str, bytes]]:
        """The headers for aiokafka; bytes that were not UTF-8 when received are unchanged."""
        return [(name, value.encode(errors="surrogateescape")) for name, value in self.headers.items()]
