"""Encrypts the secrets of endpoints at rest: AES-256-GCM, with the row that a secret belongs to as associated data."""

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.webhooks.model import WebhooksNotConfigured

VERSION = b"\x01"
NONCE_BYTES = 12
KEY_ID_BYTES = 4


class AesSecretCipher:
    """The first key encrypts, all decrypt: so keys can be rotated.

    Stored are version, key id, nonce and ciphertext. Keys are derived from texts of at least 32 characters.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = {_key_id(key): AESGCM(_derive(key, b"encrypt")) for key in keys}
        self._first = _key_id(keys[0]) if keys else None

    def seal(self, secret: str, owner: str) -> bytes:
        if self._first is None:
            raise WebhooksNotConfigured("Webhooks are not configured: ORCHESTRATOR_WEBHOOKS__SECRET_KEYS is not set.")
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self._first].encrypt(nonce, secret.encode(), owner.encode())
        return VERSION + self._first + nonce + sealed

    def open(self, sealed: bytes, owner: str) -> str:
        head, rest = sealed[: 1 + KEY_ID_BYTES], sealed[1 + KEY_ID_BYTES :]
        key = self._keys.get(head[1:])
        if head[:1] != VERSION or key is None:
            raise WebhooksNotConfigured("A webhook secret is encrypted with a key that is no longer configured.")
        try:
            return key.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], owner.encode()).decode()
        except InvalidTag:
            raise WebhooksNotConfigured("A webhook secret was changed outside of Argosy.") from None


def _derive(key: str, purpose: bytes) -> bytes:
    return hashlib.sha256(b"argosy webhook secrets " + purpose + b" " + key.encode()).digest()


def _key_id(key: str) -> bytes:
    return _derive(key, b"id")[:KEY_ID_BYTES]
