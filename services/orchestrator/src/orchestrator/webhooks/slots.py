"""How many deliveries may be in progress, in all and per endpoint, so that slow endpoints do not delay others."""

from collections import Counter


class Slots:
    """Bounds of one process.

    An endpoint begins with `per_endpoint` slots. Each time-out halves them, down to one; each answer gives one back. An
    endpoint with fewer slots than it began with is slow, and all slow endpoints together have half of the `total`: even
    many of them leave the other half to the rest.
    """

    def __init__(self, total: int, per_endpoint: int) -> None:
        self._total = total
        self._per_endpoint = per_endpoint
        self._in_flight: Counter[str] = Counter()
        self._limits: dict[str, int] = {}

    @property
    def free(self) -> int:
        return self._total - self._in_flight.total()

    @property
    def per_endpoint(self) -> int:
        """Room of an endpoint that `rooms` does not name."""
        return self._per_endpoint

    def rooms(self) -> dict[str, int]:
        """Room of each endpoint that has less than an idle one."""
        slow = sum(count for endpoint, count in self._in_flight.items() if endpoint in self._limits)
        slow_room = max(0, self._total // 2 - slow)
        busy = {
            endpoint: self._per_endpoint - count
            for endpoint, count in self._in_flight.items()
            if endpoint not in self._limits
        }
        return busy | {
            endpoint: min(slow_room, max(0, limit - self._in_flight[endpoint]))
            for endpoint, limit in self._limits.items()
        }

    def acquire(self, endpoint_id: str) -> bool:
        """Acquire a slot; False when there is none."""
        if self.free < 1 or self.rooms().get(endpoint_id, self._per_endpoint) < 1:
            return False
        self._in_flight[endpoint_id] += 1
        return True

    def release(self, endpoint_id: str, *, timed_out: bool | None) -> None:
        """Return a slot. `timed_out` says how the attempt went; None when none was made."""
        self._in_flight[endpoint_id] -= 1
        if not self._in_flight[endpoint_id]:
            del self._in_flight[endpoint_id]
        if timed_out is None:
            return
        limit = self._limits.get(endpoint_id, self._per_endpoint)
        limit = max(1, limit // 2) if timed_out else limit + 1
        # With one slot per endpoint every limit is the same: then a time-out alone makes an endpoint slow.
        if limit < self._per_endpoint or (timed_out and self._per_endpoint == 1):
            self._limits[endpoint_id] = limit
        else:
            self._limits.pop(endpoint_id, None)
