"""Records of topics, and their signatures: a record is handled only if a holder of a signing key has published it.

A signature is an HMAC-SHA256 over topic, key, value and the id of the signing key, each preceded by its length. So a
record can neither be changed nor moved to another topic or tenant. It can be repeated; handlers are idempotent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from pydantic import SecretStr

from chassis.errors import ArgosyError, Kind

DEAD_LETTERS = ".dlq"
KEY_ID_HEADER: Final = "argosy-key-id"
SIGNATURE_HEADER: Final = "argosy-signature"
UNKNOWN_KEY: Final = "the event is signed with an unknown key"
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


class SigningKeys:
    """Keys as settings have them, `id:secret` each. The first signs; all verify, so keys are rotated without a pause.

    To rotate: add the new key at the end everywhere, then move it to the front everywhere, then remove the old one.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        pairs = [key.get_secret_value().partition(":") for key in keys]
        # A keyed hash is prepared once and copied for each record, at half the cost of making one.
        self._keys = {name: hmac.new(secret.encode(), digestmod=hashlib.sha256) for name, _, secret in pairs}
        self._signer = pairs[0][0]

    def sign(self, record: Record) -> Record:
        """Return the record with the headers of its signature."""
        signature = self._signature(self._signer, record)
        return record._replace(headers={**record.headers, KEY_ID_HEADER: self._signer, SIGNATURE_HEADER: signature})

    def problem(self, record: Record) -> str | None:
        """Verify a record; return what is wrong with its signature, or None."""
        signature, key_id = record.headers.get(SIGNATURE_HEADER), record.headers.get(KEY_ID_HEADER)
        if signature is None or key_id is None:
            return "the event is not signed"
        if key_id not in self._keys:
            return UNKNOWN_KEY
        expected = self._signature(key_id, record).encode()
        if not hmac.compare_digest(expected, signature.encode(errors="surrogateescape")):
            return "the signature of the event is wrong"
        return None

    def _signature(self, key_id: str, record: Record) -> str:
        digest = self._keys[key_id].copy()
        topic, name = record.topic.encode(), key_id.encode()
        digest.update(
            b"%d:%b%d:%b%d:%b%d:%b"
            % (len(topic), topic, len(record.key), record.key, len(record.value), record.value, len(name), name)
        )
        return digest.hexdigest()
