"""What a circuit counts, and whose calls it was.

A tenant can make its own calls fail or hang. So failures of one tenant alone speak for that tenant only.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

ALL_TENANTS: Final = "*"
MAX_TENANTS: Final = 2
"""So many are kept of those whose calls failed in a row: it only matters whether there is another."""


class Ticket:
    """A call that was admitted, until its outcome is known. Times are of the monotonic clock, in seconds."""

    __slots__ = ("began", "probe", "suspected", "tenant_id")

    def __init__(self, began: float, tenant_id: str, probe: bool = False) -> None:
        self.began = began
        self.tenant_id = tenant_id
        self.probe = probe
        """Whether its outcome decides about a circuit; false again after it has."""
        self.suspected = False
        """Whether it counts as a failure although it has not ended: others like it have timed out."""


class Counts(NamedTuple):
    """What one replica tells the others of a circuit."""

    failures: int
    """Since the last answer."""
    tenants: tuple[str, ...]
    """Of whom they were; not of calls that are only suspected."""
    answered: bool
    """Whether there was an answer before them, which ends the row."""
    hung_for: float
    """Seconds until the last of them timed out without a byte; 0 when none did."""


class FailureRow:
    """Failures without an answer between them."""

    __slots__ = ("count", "tenants")

    def __init__(self) -> None:
        self.count = 0
        self.tenants: set[str] = set()

    def add(self, failures: int, tenants: Iterable[str]) -> None:
        self.count += failures
        for tenant_id in tenants:
            if len(self.tenants) < MAX_TENANTS:
                self.tenants.add(tenant_id)

    def clear(self) -> None:
        self.count = 0
        self.tenants.clear()

    def whose(self, failures: int) -> str | None:
        """Return for whom so many failures speak: one tenant, or all; None when there are fewer."""
        if self.count < failures or not self.tenants:
            return None
        return ALL_TENANTS if len(self.tenants) > 1 else next(iter(self.tenants))


class UnpublishedCounts:
    """What other replicas have not received yet."""

    __slots__ = ("_answered", "_hung_for", "_row")

    def __init__(self) -> None:
        self._row = FailureRow()
        self._answered = False
        self._hung_for = 0.0

    def failed(self, failures: int, tenants: Iterable[str], hung_for: float) -> None:
        self._row.add(failures, tenants)
        self._hung_for = max(self._hung_for, hung_for)

    def answered(self) -> None:
        self._row.clear()
        self._answered, self._hung_for = True, 0.0

    def take(self) -> Counts:
        """Return what is unpublished, and forget it."""
        counts = Counts(self._row.count, tuple(self._row.tenants), self._answered, self._hung_for)
        self._row.clear()
        self._answered, self._hung_for = False, 0.0
        return counts


class _Half:
    """Half of a window: counts of calls, and by tenant of those that failed or were slow."""

    __slots__ = ("calls", "failed", "failures", "slow", "slowly")

    def __init__(self) -> None:
        self.calls = self.failures = self.slow = 0
        self.failed: dict[str, int] = {}
        self.slowly: dict[str, int] = {}


class CallWindow:
    """The calls of the last seconds: of between half a window and a whole one."""

    __slots__ = ("_ends", "_half_seconds", "_now", "_previous")

    def __init__(self, seconds: float) -> None:
        self._half_seconds = seconds / 2
        self.clear()

    def clear(self) -> None:
        self._now, self._previous = _Half(), _Half()
        self._ends = 0.0

    def count(self, now: float) -> None:
        """Count an answer."""
        if now >= self._ends:
            self._turn(now)
        self._now.calls += 1

    def count_failure(self, now: float, tenant_id: str) -> None:
        self.count(now)
        half = self._now
        half.failures += 1
        half.failed[tenant_id] = half.failed.get(tenant_id, 0) + 1

    def count_slow(self, tenant_id: str) -> None:
        """Count the last answer as slow, too."""
        half = self._now
        half.slow += 1
        half.slowly[tenant_id] = half.slowly.get(tenant_id, 0) + 1

    def figures(self) -> tuple[int, int, int]:
        """Return calls, failures and slow calls."""
        now, previous = self._now, self._previous
        return now.calls + previous.calls, now.failures + previous.failures, now.slow + previous.slow

    def whose_failures(self, min_calls: int, ratio: float) -> str | None:
        """Return for whom the failures speak: one tenant, or all; None when they are fewer than this part."""
        calls, failures, _ = self.figures()
        if calls < min_calls or failures < ratio * calls:
            return None
        return _whose(self._now.failed, self._previous.failed, calls, ratio)

    def whose_slowness(self, min_calls: int, ratio: float) -> str | None:
        """Return for whom the slow calls speak, as `whose_failures`."""
        calls, _, slow = self.figures()
        if calls < min_calls or slow < ratio * calls:
            return None
        return _whose(self._now.slowly, self._previous.slowly, calls, ratio)

    def _turn(self, now: float) -> None:
        recent = now < self._ends + self._half_seconds
        self._previous, self._now = self._now if recent else _Half(), _Half()
        self._ends = now + self._half_seconds


def _whose(one: Mapping[str, int], other: Mapping[str, int], calls: int, ratio: float) -> str:
    """Return the tenant with the most of these calls; all, if as many of the others' calls are such."""
    by_tenant = {tenant_id: one.get(tenant_id, 0) + other.get(tenant_id, 0) for tenant_id in {*one, *other}}
    first = max(by_tenant, key=by_tenant.__getitem__)
    most = by_tenant[first]
    rest = sum(by_tenant.values()) - most
    return ALL_TENANTS if rest and rest >= ratio * (calls - most) else first
