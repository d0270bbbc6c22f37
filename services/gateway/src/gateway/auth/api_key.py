"""API keys: `argosy_<env>_<id>_<secret><crc>`, and what is stored of them.

The id is the key's record id in base62, so a key finds its own row. The secret holds 190 bits. The CRC lets a typing
error be refused without a database. Only the SHA-256 of the whole text is stored.
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chassis.errors import ArgosyError, Kind
from chassis.ids import new_id

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 22  # 128 bits
SECRET_LENGTH = 32  # 190 bits
CRC_LENGTH = 6  # 32 bits
PREFIX = "key_"
VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
SHAPE = re.compile(rb"argosy_[a-z][a-z0-9]{0,15}_([0-9A-Za-z]{22})_[0-9A-Za-z]{32}([0-9A-Za-z]{6})")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9]{0,15}")


class MissingApiKey(ArgosyError):
    """The request carries no `Authorization: Bearer` header."""

    kind = Kind.UNAUTHENTICATED
    reason = "MISSING_API_KEY"


class InvalidApiKey(ArgosyError):
    """The key is malformed, fails its checksum, or belongs to nobody."""

    kind = Kind.UNAUTHENTICATED
    reason = "INVALID_API_KEY"


class KeyRevoked(ArgosyError):
    """The key was revoked."""

    kind = Kind.UNAUTHENTICATED
    reason = "KEY_REVOKED"


class KeyExpired(ArgosyError):
    """The key's last day has passed."""

    kind = Kind.UNAUTHENTICATED
    reason = "KEY_EXPIRED"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key on record; `sha256` is all that is kept of its text."""

    tenant_id: str
    project_id: str
    key_id: str
    name: str
    env: str
    roles: frozenset[str]
    created_at: datetime
    sha256: bytes = field(repr=False)
    plan: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A well-formed key as somebody presents it: which record to look at, and what must match there."""

    key_id: str
    sha256: bytes = field(repr=False)


class Keys(Protocol):
    """Where keys are on record."""

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Read a key with its tenant's plan; None when there is none. Raises Unavailable."""
        ...


def mint_key(env: str) -> tuple[PresentedKey, str]:
    """Make a key that nobody has yet; the text is shown once and kept nowhere."""
    if not ENVIRONMENT.fullmatch(env):
        raise ValueError("env must be 1 to 16 lower-case letters and digits, starting with a letter")
    key_id = new_id(PREFIX)
    identifier = _encode(int(key_id.removeprefix(PREFIX), 16), ID_LENGTH)
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"argosy_{env}_{identifier}_{secret}"
    text = body + _encode(zlib.crc32(body.encode()), CRC_LENGTH)
    return PresentedKey(key_id, hashlib.sha256(text.encode()).digest()), text


def parse_key(presented: bytes) -> PresentedKey:
    """Read a key's id. Raises InvalidApiKey when its shape or its checksum is wrong."""
    match = SHAPE.fullmatch(presented)
    if match is None or _decode(match[2]) != zlib.crc32(presented[:-CRC_LENGTH]):
        raise InvalidApiKey("Incorrect API key provided: it is malformed. Copy the whole key.")
    number = _decode(match[1])
    if number >= 1 << 128:
        raise InvalidApiKey("Incorrect API key provided: it is malformed. Copy the whole key.")
    return PresentedKey(f"{PREFIX}{number:032x}", hashlib.sha256(presented).digest())


def environment_of(text: str) -> str:
    """Read the environment that a well-formed key was minted for."""
    return text.split("_", 2)[1]


def _encode(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, value = divmod(number, 62)
        letters.append(ALPHABET[value])
    return "".join(reversed(letters))


def _decode(letters: bytes) -> int:
    number = 0
    for letter in letters.decode():
        number = number * 62 + VALUES[letter]
    return number
