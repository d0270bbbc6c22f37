"""Signatures of events: a record is handled only if a holder of a signing key has published it.

A signature is an HMAC-SHA256 over topic, key, value and the id of the signing key, each preceded by its length. So a
record can neither be changed nor moved to another topic or tenant. It can be repeated; handlers are idempotent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from pydantic import SecretStr

from chassis.kafka.record import Record

KEY_ID_HEADER: Final = "argosy-key-id"
SIGNATURE_HEADER: Final = "argosy-signature"
UNKNOWN_KEY: Final = "the event is signed with an unknown key"


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
