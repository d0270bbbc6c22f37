"""The circuit of one upstream model with one credential: it decides whether a call is made.

Closed: calls pass. Open, after failures: none pass. Half open, when its time is over: one call, the probe, decides.
Times are of the monotonic clock, in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BlockReason(StrEnum):
    """Why a call is not made."""

    OPEN = "open"
    RATE_LIMITED = "rate_limited"
    ACCOUNT = "account"


class CircuitKey(NamedTuple):
    """What a circuit is of; `account` is the id of a credential."""

    upstream: str
    account: str
    model: str


class Block(NamedTuple):
    """Why no call is made, and until when."""

    reason: BlockReason
    until: float


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When circuits open, and for how long. All times are in seconds."""

    failures_in_row: int = 5
    window: float = 10.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    slow_first_byte: float | None = None
    """A first byte that takes longer counts as slow; None for no limit."""
    slow_ratio: float = 0.8
    open_for: float = 1.0
    """Doubles each time a probe fails, up to `max_open_for`."""
    max_open_for: float = 5.0
    probe_timeout: float = 5.0
    """A probe without an outcome for so long lets another one pass."""
    grant_timeout: float = 5.0
    """How long a probe waits for the other replicas' consent, which needs Redis."""
    rate_limit_rest: float = 1.0
    """For a refusal by rate that names no wait."""
    max_rate_limit_rest: float = 60.0
    account_rest: float = 30.0


class AccountCircuit:
    """What is known of one credential of one upstream, for all models."""

    __slots__ = ("account", "circuits", "resting_until", "upstream")

    def __init__(self, upstream: str, account: str) -> None:
        self.upstream = upstream
        self.account = account
        self.resting_until = 0.0
        self.circuits: list[Circuit] = []

    def rest(self, until: float) -> None:
        """Make no call before `until`. A later time that is known already stays."""
        if until > self.resting_until:
            self.resting_until = until
            for circuit in self.circuits:
                circuit.clear = False


class Circuit:
    """One circuit. `on_change` is called after it opened, closed or began to rest."""

    __slots__ = (
        *("_calls", "_closed_at", "_failures", "_failures_in_row", "_on_change", "_openings", "_policy", "_previous"),
        *("_probing_since", "_slow", "_window_ends", "account", "clear", "granted_until", "key", "needs_grant"),
        *("open_until", "resting_until", "state", "wanted_at"),
    )

    def __init__(
        self,
        key: CircuitKey,
        account: AccountCircuit,
        policy: CircuitPolicy,
        on_change: Callable[["Circuit"], None] | None = None,
    ) -> None:
        self.key = key
        self.account = account
        self._policy = policy
        self._on_change = on_change
        self.clear = not account.resting_until
        """Whether calls pass without a look at the time: the state of nearly all circuits."""
        self.state = CircuitState.CLOSED
        self.open_until = 0.0
        self.resting_until = 0.0
        self.needs_grant = False
        """Whether other replicas must consent to a probe."""
        self.granted_until = 0.0
        self.wanted_at = 0.0
        """When a call was last refused that could have been the probe."""
        self._probing_since: float | None = None
        self._openings = 0
        self._closed_at = 0.0
        self._failures_in_row = 0
        self._calls = self._failures = self._slow = 0
        self._previous = (0, 0, 0)
        self._window_ends = 0.0

    def admit(self, now: float) -> bool | None:
        """Return None when no call may be made; else whether the call is the probe. Each call needs its outcome."""
        if self.clear:
            return False
        if self.block(now) is not None:
            return None
        if self.state is CircuitState.CLOSED:
            self.clear = True
            return False
        if self.needs_grant and now >= self.granted_until and now < self.open_until + self._policy.grant_timeout:
            self.wanted_at = now
            return None
        self.state = CircuitState.HALF_OPEN
        self._probing_since, self.granted_until = now, 0.0
        return True

    def block(self, now: float) -> Block | None:
        """Return what stands against a call now; None when a call may be made, or a probe may."""
        if now < self.account.resting_until:
            return Block(BlockReason.ACCOUNT, self.account.resting_until)
        if now < self.resting_until:
            return Block(BlockReason.RATE_LIMITED, self.resting_until)
        if self.state is CircuitState.OPEN and now < self.open_until:
            return Block(BlockReason.OPEN, self.open_until)
        if self._probing_since is not None and now < self._probing_since + self._policy.probe_timeout:
            return Block(BlockReason.OPEN, now + 1.0)
        return None

    def succeeded(self, now: float, *, probe: bool, first_byte: float = 0.0) -> None:
        """Count an answer, or a refusal that proves that the upstream works."""
        if probe:
            self.close(now)
            return
        if self.state is not CircuitState.CLOSED:
            return  # it began before the circuit opened
        self._failures_in_row = 0
        if now >= self._window_ends:
            self._turn_window(now)
        self._calls += 1
        limit = self._policy.slow_first_byte
        if limit is not None and first_byte > limit:
            self._slow += 1
            calls, _, slow = self._window()
            if calls >= self._policy.min_calls and slow >= self._policy.slow_ratio * calls:
                self._open(now)

    def failed(self, now: float, *, probe: bool) -> None:
        """Count a failure of the upstream."""
        if probe:
            self._open(now)
            return
        if self.state is not CircuitState.CLOSED:
            return
        self._failures_in_row += 1
        if now >= self._window_ends:
            self._turn_window(now)
        self._calls += 1
        self._failures += 1
        calls, failures, _ = self._window()
        policy = self._policy
        many = calls >= policy.min_calls and failures >= policy.failure_ratio * calls
        if many or self._failures_in_row >= policy.failures_in_row:
            self._open(now)

    def abandoned(self, *, probe: bool) -> None:
        """Note that a call ended without telling anything about the upstream: its client left."""
        if probe and self.state is CircuitState.HALF_OPEN:
            self.state, self._probing_since = CircuitState.OPEN, None

    def rate_limited(self, now: float, wait: float | None, *, probe: bool) -> None:
        """Make no call for `wait` seconds, within bounds: the provider said so. It works, though."""
        if probe:
            self.close(now)
        policy = self._policy
        until = now + min(policy.rate_limit_rest if wait is None else wait, policy.max_rate_limit_rest)
        # A later time stays: another refusal named it.
        if until > self.resting_until:
            self.resting_until, self.clear = until, False
            self._changed()

    def account_refused(self, now: float, *, probe: bool) -> None:
        """Make no call with this credential for some time, for no model."""
        self.abandoned(probe=probe)
        self.account.rest(now + self._policy.account_rest)
        self._changed()

    def open_remotely(self, until: float) -> None:
        """Open because another replica did. A probe that runs here goes on."""
        if self.state is CircuitState.HALF_OPEN:
            return
        self.state, self.clear = CircuitState.OPEN, False
        self.open_until = max(self.open_until, until)

    def rest_remotely(self, until: float) -> None:
        """Make no call before `until`: the provider asked another replica to wait."""
        if until > self.resting_until:
            self.resting_until, self.clear = until, False

    def close(self, now: float, *, remotely: bool = False) -> None:
        """Close, and forget the failures."""
        if self.state is CircuitState.CLOSED:
            return
        self.state = CircuitState.CLOSED
        self._probing_since, self._closed_at = None, now
        self.granted_until = self.open_until = 0.0
        self._failures_in_row = self._calls = self._failures = self._slow = 0
        self._previous = (0, 0, 0)
        if not remotely:
            self._changed()

    def awaits_grant(self, now: float) -> bool:
        """Whether a probe would be made here as soon as the other replicas consent."""
        return (
            self.state is CircuitState.OPEN and self.wanted_at >= self.open_until and now >= self.granted_until
            and now - self.wanted_at < self._policy.grant_timeout
        )  # fmt: skip

    def figures(self) -> tuple[int, int, int]:
        """Return calls, failures and slow calls of the window."""
        return self._window()

    def _open(self, now: float) -> None:
        policy = self._policy
        if self.state is CircuitState.CLOSED and now - self._closed_at > 4 * policy.max_open_for:
            self._openings = 0
        self._openings += 1
        self.state, self.clear, self._probing_since = CircuitState.OPEN, False, None
        self.granted_until = 0.0
        self.open_until = now + min(policy.open_for * 2.0 ** min(self._openings - 1, 16), policy.max_open_for)
        self._changed()

    def _window(self) -> tuple[int, int, int]:
        calls, failures, slow = self._previous
        return calls + self._calls, failures + self._failures, slow + self._slow

    def _turn_window(self, now: float) -> None:
        """Drop what is older than a window: the last half of it stays."""
        half = self._policy.window / 2
        recent = now < self._window_ends + half
        self._previous = (self._calls, self._failures, self._slow) if recent else (0, 0, 0)
        self._calls = self._failures = self._slow = 0
        self._window_ends = now + half

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self)
