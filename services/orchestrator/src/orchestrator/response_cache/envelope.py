"""A cached answer as bytes: versioned, bound to its key, and checked before anything of it is used.

    magic and version (4 bytes), flags (1), digest of all that follows and of the key (16), content
    content: length of the head (4), head as JSON, usage payload, payloads; compressed where the flag says so

What is truncated, changed, of another version or of another key is no answer.
"""

import zlib
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

import orjson
from values.usage import TokenDetails, TokenUsage, UsageSource

from orchestrator.response_cache.model import CachedAnswer, CacheKey

VERSION: Final = 1
MAGIC: Final = b"AC" + VERSION.to_bytes(2, "big")
COMPRESSED: Final = 1
COMPRESS_BYTES: Final = 16_384
"""Content from this size on is compressed: it takes about 10 µs per kilobyte."""
MAX_CONTENT_BYTES: Final = 16_000_000
"""Of a compressed content, when it is unpacked."""

_PREFIX = Struct(">4sB16s")
_LENGTH = Struct(">I")


def pack(answer: CachedAnswer, key: CacheKey) -> bytes:
    """Render an answer for its key."""
    usage = answer.usage
    details = {} if usage.details is None else {"token_details": list(usage.details)}
    head = orjson.dumps(
        {
            "created_ms": answer.created_ms,
            "usage": [usage.source, usage.input_tokens, usage.output_tokens],
            "price": [answer.price_key, answer.price_version],
            "warnings": list(answer.warnings),
            "sizes": [len(answer.usage_payload), *map(len, answer.payloads)],
            **details,
        }
    )
    content = b"".join((_LENGTH.pack(len(head)), head, answer.usage_payload, *answer.payloads))
    flags = 0
    if len(content) >= COMPRESS_BYTES:
        flags, content = COMPRESSED, zlib.compress(content, 1)
    return _PREFIX.pack(MAGIC, flags, _digest(flags, content, key)) + content


def unpack(data: bytes, key: CacheKey) -> CachedAnswer | None:
    """Read an answer of this key; None for anything that `pack` did not make for it."""
    if len(data) < _PREFIX.size:
        return None
    magic, flags, digest = _PREFIX.unpack_from(data)
    content = data[_PREFIX.size :]
    if magic != MAGIC or digest != _digest(flags, content, key):
        return None
    try:
        return _read(_decompress(content) if flags & COMPRESSED else content)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error):
        # The digest fits, so another version of this code wrote it under the same version number.
        return None


def _digest(flags: int, content: bytes, key: CacheKey) -> bytes:
    digest = blake2b(b"\0".join((key.tenant_id.encode(), key.digest.encode(), bytes((flags,)))), digest_size=16)
    digest.update(content)
    return digest.digest()


def _decompress(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, MAX_CONTENT_BYTES)
    if not unpacker.eof:
        raise ValueError("the content is larger than any answer")
    return unpacked


def _read(content: bytes) -> CachedAnswer:
    (length,) = _LENGTH.unpack_from(content.ljust(_LENGTH.size, b"\0"))
    start = _LENGTH.size + length
    head: dict[str, Any] = orjson.loads(content[_LENGTH.size : start])
    source, input_tokens, output_tokens = head["usage"]
    price_key, price_version = head["price"]
    usage_payload, *payloads = _split(content[start:], head["sizes"])
    details = TokenDetails(*head["token_details"]) if "token_details" in head else None
    usage = TokenUsage(UsageSource(source), input_tokens, output_tokens, details)
    warnings = tuple(map(str, head["warnings"]))
    return CachedAnswer(payloads, usage_payload, usage, price_key, price_version, int(head["created_ms"]), warnings)


def _split(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    if sum(sizes) != len(data):
        raise ValueError("the sizes do not fit the content")
    parts, start = [], 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return parts
