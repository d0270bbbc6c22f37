"""Seals the secrets of endpoints, with the row that a secret belongs to as associated data."""

from collections.abc import Sequence

from chassis.sealing import KeyRing, NoSealingKey, SealUnreadable

from orchestrator.webhooks.model import WebhooksNotConfigured


class AesSecretCipher:
    """The first key encrypts, all decrypt: so keys can be rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._ring = KeyRing(keys, b"argosy webhook secrets")

    def seal(self, secret: str, owner: str) -> bytes:
        try:
            return self._ring.seal(secret.encode(), owner)
        except NoSealingKey:
            raise WebhooksNotConfigured(
                "Webhooks are not configured: ORCHESTRATOR_WEBHOOKS__SECRET_KEYS is not set."
            ) from None

    def open(self, sealed: bytes, owner: str) -> str:
        try:
            return self._ring.open(sealed, owner).decode()
        except SealUnreadable:
            raise WebhooksNotConfigured(
                "A webhook secret cannot be opened: its key is not configured, or it was changed outside of Argosy."
            ) from None

    def reseal(self, sealed: bytes, owner: str) -> bytes | None:
        return None if self._ring.is_current(sealed) else self.seal(self.open(sealed, owner), owner)
