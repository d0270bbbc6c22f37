"""Secrets at rest: AES-256-GCM, with the row that a secret belongs to as associated data.

A `KeyRing` holds keys of the settings: the first seals, all open, so keys can be rotated. A `DataKey` is a random key
that a ring seals; when it is deleted, all that it sealed is unreadable, also in backups of other tables.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.errors import ArgosyError, Kind

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12
KEY_ID_BYTES: Final = 4
DATA_KEY_BYTES: Final = 32


class SealUnreadable(ArgosyError):
    """A secret at rest cannot be opened: its key is not configured, or it belongs to another row or was changed."""

    kind, reason = Kind.INTERNAL, "SEAL_UNREADABLE"


class NoSealingKey(ArgosyError):
    """No key is configured with which a secret could be sealed."""

    kind, reason = Kind.INVALID, "NO_SEALING_KEY"


class KeyRing:
    """Sealed are version, key id, nonce and ciphertext. Keys are derived from texts of at least 32 characters."""

    def __init__(self, keys: Sequence[str], purpose: bytes) -> None:
        """`purpose` keeps rings with equal texts apart."""
        self._purpose = purpose
        self._keys = {self._key_id(key): AESGCM(self._derive(key, b"encrypt")) for key in keys}
        self._current = self._key_id(keys[0]) if keys else None

    def seal(self, secret: bytes, owner: str) -> bytes:
        """Raises `NoSealingKey`."""
        if self._current is None:
            raise NoSealingKey("No key is configured to seal secrets with.")
        return VERSION + self._current + _seal(self._keys[self._current], secret, owner)

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Raises `SealUnreadable`."""
        head, rest = sealed[: 1 + KEY_ID_BYTES], sealed[1 + KEY_ID_BYTES :]
        key = self._keys.get(head[1:])
        if head[:1] != VERSION or key is None:
            raise SealUnreadable("A secret is sealed with a key that is not configured.")
        return _open(key, rest, owner)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key has sealed it."""
        return sealed[: 1 + KEY_ID_BYTES] == VERSION + (self._current or b"")

    def _derive(self, key: str, use: bytes) -> bytes:
        return hashlib.sha256(self._purpose + b" " + use + b" " + key.encode()).digest()

    def _key_id(self, key: str) -> bytes:
        return self._derive(key, b"id")[:KEY_ID_BYTES]


class DataKey:
    """Seals the rows of one owner, such as a tenant."""

    def __init__(self, key: bytes) -> None:
        self._key = AESGCM(key)

    @staticmethod
    def generate() -> bytes:
        return os.urandom(DATA_KEY_BYTES)

    def seal(self, secret: bytes, owner: str) -> bytes:
        return VERSION + _seal(self._key, secret, owner)

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Raises `SealUnreadable`."""
        if sealed[:1] != VERSION:
            raise SealUnreadable("A secret is sealed in a format that is not known.")
        return _open(self._key, sealed[1:], owner)


def _seal(key: AESGCM, secret: bytes, owner: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, secret, owner.encode())


def _open(key: AESGCM, sealed: bytes, owner: str) -> bytes:
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
    except (InvalidTag, ValueError):
        raise SealUnreadable("A secret belongs to another row, or was changed outside of Argosy.") from None
