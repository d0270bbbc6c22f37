"""The format of API keys, `argosy_<env>_<id>_<secret><crc>`, and the record that is kept of each.

The id is the record's id in base62. The secret has 190 random bits. The CRC lets a mistyped key be rejected without a
database lookup. Only the SHA-256 of the key is stored.
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from datetime import datetime

from chassis.errors import ArgosyError, Kind
from chassis.ids import new_id

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 22  # 128 bits
SECRET_LENGTH = 32  # 190 bits
CRC_LENGTH = 6  # 32 bits
PREFIX = "key_"
DIGITS = {letter: digit for digit, letter in enumerate(ALPHABET)}
PATTERN = re.compile(rb"argosy_[a-z][a-z0-9]{0,15}_([0-9A-Za-z]{22})_[0-9A-Za-z]{32}([0-9A-Za-z]{6})")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9]{0,15}")


class MissingApiKey(ArgosyError):
    """The request carries no `Authorization: Bearer` header."""

    kind, reason = Kind.UNAUTHENTICATED, "MISSING_API_KEY"


class InvalidApiKey(ArgosyError):
    """The key is malformed, its checksum is wrong, or there is no such key."""

    kind, reason = Kind.UNAUTHENTICATED, "INVALID_API_KEY"


class KeyRevoked(ArgosyError):
    """The key was revoked."""

    kind, reason = Kind.UNAUTHENTICATED, "KEY_REVOKED"


class KeyExpired(ArgosyError):
    """The key has expired."""

    kind, reason = Kind.UNAUTHENTICATED, "KEY_EXPIRED"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The record of a key; of its text only `sha256` is kept."""

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
class ParsedKey:
    """A well-formed key: the id of its record, and the digest that the record must have."""

    key_id: str
    sha256: bytes = field(repr=False)


def mint_key(env: str) -> tuple[ParsedKey, str]:
    """Make a new key and its text. Raises ValueError for an invalid environment."""
    if not ENVIRONMENT.fullmatch(env):
        raise ValueError("env must be 1 to 16 lower-case letters and digits, starting with a letter")
    key_id = new_id(PREFIX)
    text = format_key(env, key_id, "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH)))
    return ParsedKey(key_id, hashlib.sha256(text.encode()).digest()), text


def format_key(env: str, key_id: str, secret: str) -> str:
    body = f"argosy_{env}_{_encode(int(key_id.removeprefix(PREFIX), 16), ID_LENGTH)}_{secret}"
    return body + _encode(zlib.crc32(body.encode()), CRC_LENGTH)


def parse_key(text: bytes) -> ParsedKey:
    """Raises InvalidApiKey when the format or the checksum is wrong."""
    match = PATTERN.fullmatch(text)
    if match is None or _decode(match[2]) != zlib.crc32(text[:-CRC_LENGTH]):
        raise InvalidApiKey("Incorrect API key provided: it is malformed. Copy the whole key.")
    number = _decode(match[1])
    if number >= 1 << 128:
        raise InvalidApiKey("Incorrect API key provided: it is malformed. Copy the whole key.")
    return ParsedKey(f"{PREFIX}{number:032x}", hashlib.sha256(text).digest())


def environment_of(text: str) -> str:
    return text.split("_", 2)[1]


def _encode(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[digit])
    return "".join(reversed(letters))


def _decode(letters: bytes) -> int:
    number = 0
    for letter in letters.decode():
        number = number * len(ALPHABET) + DIGITS[letter]
    return number
