"""What travels on a topic."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from chassis.errors import ArgosyError, Kind

DEAD_LETTERS = ".dlq"


class Undecodable(ArgosyError, public=False):
    """The record is not the message of its topic: it will never be, so it goes to the dead letters."""

    kind, reason = Kind.INVALID, "UNDECODABLE"


NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Record(NamedTuple):
    """One record of a topic; `headers` carry the trace context. One to be published has no partition and offset yet."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, str] = NOTHING
    partition: int = -1
    offset: int = -1

    @classmethod
    def received(cls, record: Any) -> Self:
        """From aiokafka's."""
        headers = {name: value.decode(errors="surrogateescape") for name, value in record.headers}
        return cls(record.topic, record.key or b"", record.value or b"", headers, record.partition, record.offset)

    @property
    def sent_headers(self) -> list[tuple[str, bytes]]:
        """As aiokafka sends them; bytes that were no text come out as they came in."""
        return [(name, value.encode(errors="surrogateescape")) for name, value in self.headers.items()]
