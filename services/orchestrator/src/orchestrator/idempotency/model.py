"""Keys by which clients repeat a request (IETF draft-ietf-httpapi-idempotency-key-header)."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from chassis.errors import ArgosyError, InvalidRequest, Kind

KEPT_FOR: Final = timedelta(hours=24)
"""After that a key is new again."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class Resource(StrEnum):
    """What a request makes. The same key may be used for each."""

    JOB = "job"
    BATCH = "batch"


class IdempotencyKey(NamedTuple):
    """A client's key: each API key has its own."""

    tenant_id: str
    key_id: str
    resource: Resource
    key: str


class IdempotencyKeyReused(ArgosyError):
    """An earlier request with this Idempotency-Key was another one; a repeat must be the same."""

    kind, reason = Kind.UNPROCESSABLE, "IDEMPOTENCY_KEY_REUSED"


def checked_key(key: str) -> str:
    """Raises `InvalidRequest`."""
    if _KEY.fullmatch(key) is None:
        raise InvalidRequest("idempotency_key is not a text of 1 to 255 visible characters", param="idempotency_key")
    return key
