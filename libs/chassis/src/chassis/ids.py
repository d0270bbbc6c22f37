"""Ids that sort by time: a prefix for the kind of object and a UUID version 7 (RFC 9562)."""

import secrets
import time

VERSION = 0x7 << 76
VARIANT = 0b10 << 62
NANOSECONDS_PER_MILLISECOND = 1_000_000


def new_id(prefix: str) -> str:
    """Make an id such as `req_018f…`: `prefix` and a version 7 UUID as 32 hex digits.

    The UUID has 48 bits of milliseconds, 12 bits of the millisecond's fraction and 62 random bits.
    """
    milliseconds, rest = divmod(time.time_ns(), NANOSECONDS_PER_MILLISECOND)
    # The fraction replaces a counter (RFC 9562, 6.2, method 3): ids of one process sort without shared state.
    fraction = (rest << 12) // NANOSECONDS_PER_MILLISECOND
    number = (milliseconds << 80) | VERSION | (fraction << 64) | VARIANT | secrets.randbits(62)
    return f"{prefix}{number:032x}"
