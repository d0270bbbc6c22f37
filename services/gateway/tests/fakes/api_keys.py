"""Settings of the key cache for tests."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.auth.authenticate import KeyCacheTtls

TTLS = KeyCacheTtls(
    ttl=timedelta(seconds=30),
    ttl_degraded=timedelta(milliseconds=500),
    max_stale=timedelta(hours=1),
    negative_ttl=timedelta(seconds=5),
    size=100_000,
)


def ttls(**changes: Any) -> KeyCacheTtls:
    return replace(TTLS, **changes)
