"""Failed authentications per address: they are limited before a key is looked up in the database.

Counted by each gateway alone, in memory: a guess must cost less than the answer to it.
"""

import ipaddress
from datetime import timedelta

from cachetools import LRUCache
from chassis.clock import Clock
from chassis.errors import ArgosyError, Kind

from gateway.rate_limits.limiter import MINUTE_US, request_cost_us

IPV6_PREFIX = 64  # one customer has all addresses of such a network
MAX_ADDRESSES = 100_000


class TooManyFailedAuthentications(ArgosyError):
    """Too many requests from this address had no valid key in the last minute; wait for `retry-after`."""

    kind, reason = Kind.THROTTLED, "TOO_MANY_FAILED_AUTHENTICATIONS"


class FailedAuthenticationLimiter:
    """A bucket (GCRA) for each address; `per_minute` 0 is unlimited."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock = clock
        self._cost_us = request_cost_us(per_minute)
        self._full_at_us: LRUCache[str, int] = LRUCache(MAX_ADDRESSES)

    def take(self, address: str) -> None:
        """Count an attempt before its outcome is known. Raises TooManyFailedAuthentications."""
        if not self._cost_us:
            return
        now_us = int(self._clock.monotonic() * 1_000_000)
        network = network_of(address)
        used_us = max(0, self._full_at_us.get(network, 0) - now_us) + self._cost_us
        if used_us > MINUTE_US:
            raise TooManyFailedAuthentications(
                "Too many requests from your address had no valid API key; try again later.",
                retry_after=timedelta(microseconds=used_us - MINUTE_US),
            )
        self._full_at_us[network] = now_us + used_us

    def give_back(self, address: str) -> None:
        """Take back an attempt that did not fail."""
        network = network_of(address)
        if network in self._full_at_us:
            self._full_at_us[network] -= self._cost_us


def network_of(address: str) -> str:
    """Return the network of an IPv6 address; other addresses unchanged."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], IPV6_PREFIX), strict=False))
    except ValueError:
        return address
