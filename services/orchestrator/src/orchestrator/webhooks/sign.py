"""Signatures of deliveries (Standard Webhooks 1.0: HMAC-SHA256, version `v1`)."""

import base64
import hashlib
import hmac
import secrets as random_bytes
from collections.abc import Mapping, Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32
"""The specification asks for 24 to 64."""


def new_secret() -> str:
    """Make a secret as the receiver gets it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(random_bytes.token_bytes(SECRET_BYTES)).decode()


def sign(secrets: Sequence[str], event_id: str, sent_at: datetime, payload: bytes) -> Mapping[str, str]:
    """Return the headers of one attempt, with a signature by each secret.

    The timestamp is that of the attempt, not of the event: receivers refuse what is older than some minutes, and a
    retry may come days later.
    """
    timestamp = str(int(sent_at.timestamp()))
    content = f"{event_id}.{timestamp}.".encode() + payload
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{_signature(secret, content)}" for secret in secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
