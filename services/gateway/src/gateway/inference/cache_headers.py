"""The response cache in headers: what a request asks, and what the answer says."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from chassis.errors import InvalidRequest
from values.limits import MAX_CACHE_AGE_SECONDS

from gateway.inference.model import CacheControl, Started

MODES: Final = ("off", "read", "write", "on")
CACHE: Final = b"argosy-cache"
MAX_AGE: Final = b"argosy-cache-max-age"
AGE: Final = b"age"

Header = tuple[bytes, bytes]


def read_cache_headers(headers: Iterable[Header]) -> CacheControl | None:
    """Read `argosy-cache` and `argosy-cache-max-age`. Raises InvalidRequest with the name of the header."""
    mode: str | None = None
    max_age: timedelta | None = None
    for name, value in headers:
        if not name.startswith(CACHE):
            continue
        text = value.decode("latin-1").strip().lower()
        if name == CACHE:
            if text not in MODES:
                raise InvalidRequest(f"Argosy-Cache must be one of {', '.join(MODES)}.", param="argosy-cache")
            mode = text
        elif name == MAX_AGE:
            max_age = _max_age(text)
    return None if mode is None and max_age is None else CacheControl(mode, max_age)


def _max_age(text: str) -> timedelta:
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_CACHE_AGE_SECONDS)) else -1
    if not 0 <= seconds <= MAX_CACHE_AGE_SECONDS:
        message = f"Argosy-Cache-Max-Age must be a number of seconds from 0 to {MAX_CACHE_AGE_SECONDS}."
        raise InvalidRequest(message, param="argosy-cache-max-age")
    return timedelta(seconds=seconds)


def cache_response_headers(started: Started | None) -> tuple[Header, ...]:
    """Return `argosy-cache`, and `age` of a cached answer; nothing when the cache was not asked."""
    if started is None or started.cache is None:
        return ()
    outcome = (CACHE, started.cache.encode())
    return (outcome, (AGE, b"%d" % started.cache_age_seconds)) if started.cache != "miss" else (outcome,)
