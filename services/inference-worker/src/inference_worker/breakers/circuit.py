"""The circuit of one upstream model with one credential: it decides whether a call is made.

Closed: calls pass. Open, after failures: none pass. Half open, when its time is over: one call, the probe, decides.
While only one tenant's calls have failed, it is open for that tenant alone.
"""

from collections.abc import Callable
from math import inf

from inference_worker.breakers.counts import ALL_TENANTS, CallWindow, Counts, FailureRow, Ticket, UnpublishedCounts
from inference_worker.breakers.model import Block, BlockReason, CircuitKey, CircuitPolicy, CircuitState


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
    """One circuit. `on_change` is called after it opened, closed or began to rest; `on_count` after it counted."""

    __slots__ = (
        *("_answered_at", "_closed_at", "_last_prober", "_on_change", "_on_count", "_openings", "_policy"),
        *("_probing_since", "_row", "_unpublished", "_waiting", "_window", "account", "clear", "granted_until", "key"),
        *("needs_grant", "open_for", "open_until", "resting_until", "state", "wanted_at"),
    )

    def __init__(
        self,
        key: CircuitKey,
        account: AccountCircuit,
        policy: CircuitPolicy,
        on_change: Callable[["Circuit"], None] | None = None,
        on_count: Callable[["Circuit"], None] | None = None,
    ) -> None:
        self.key = key
        self.account = account
        self._policy = policy
        self._on_change = on_change
        self._on_count = on_count
        self.clear = not account.resting_until
        """Whether calls pass without a look at the time: the state of nearly all circuits."""
        self.state = CircuitState.CLOSED
        self.open_for = ALL_TENANTS
        """The tenant whose calls alone have failed, or all. Only when it is not closed."""
        self.open_until = 0.0
        self.resting_until = 0.0
        self.needs_grant = False
        """Whether other replicas must consent to a probe."""
        self.granted_until = 0.0
        self.wanted_at = 0.0
        """When a call was last refused that could have been the probe."""
        self._last_prober: str | None = None
        self._probing_since: float | None = None
        self._openings = 0
        self._closed_at = 0.0
        self._answered_at = -inf
        self._waiting: set[Ticket] = set()
        """Calls of this replica without a byte so far."""
        self._row, self._unpublished = FailureRow(), UnpublishedCounts()
        self._window = CallWindow(policy.window)

    def admit(self, now: float, tenant_id: str) -> Ticket | None:
        """Return the ticket of a call, which needs its outcome; None when no call may be made."""
        ticket = Ticket(now, tenant_id)
        if not self.clear:
            if self.block(now, tenant_id) is not None:
                return None
            if self.state is CircuitState.CLOSED:
                self.clear = True
            elif self.is_open_for(tenant_id):
                if not self._may_probe(now, tenant_id):
                    return None
                self.state, ticket.probe = CircuitState.HALF_OPEN, True
                self._probing_since, self.granted_until = now, 0.0
        self._waiting.add(ticket)
        return ticket

    def block(self, now: float, tenant_id: str) -> Block | None:
        """Return what stands against a call now; None when a call may be made, or a probe may."""
        if now < self.account.resting_until:
            return Block(BlockReason.ACCOUNT, self.account.resting_until)
        if now < self.resting_until:
            return Block(BlockReason.RATE_LIMITED, self.resting_until)
        if not self.is_open_for(tenant_id):
            return None
        if self.state is CircuitState.OPEN and now < self.open_until:
            return Block(BlockReason.OPEN, self.open_until)
        if self._probing_since is not None and now < self._probing_since + self._policy.probe_timeout:
            return Block(BlockReason.OPEN, now + 1.0)
        return None

    def is_open_for(self, tenant_id: str) -> bool:
        """Whether it is open, or half open, for the calls of a tenant."""
        return self.state is not CircuitState.CLOSED and self.open_for in (ALL_TENANTS, tenant_id)

    def succeeded(self, now: float, ticket: Ticket, *, first_byte: float = 0.0) -> None:
        """Count an answer, or a refusal that proves that the upstream works."""
        self._waiting.discard(ticket)
        policy = self._policy
        slow = policy.slow_first_byte is not None and first_byte > policy.slow_first_byte
        if ticket.probe:
            ticket.probe, self._answered_at = False, now
            if not slow:
                self.close(now)
            elif self.state is not CircuitState.CLOSED:
                self._open(now, self.open_for)
            return
        if self.state is not CircuitState.CLOSED:
            if self.is_open_for(ticket.tenant_id):
                return  # it began before the circuit opened
            if self.state is CircuitState.OPEN and now > self.open_until + policy.window:
                self.close(now)  # its tenant does not ask any more, and others are answered
        self._answered_at = now
        if self._row.count:
            self._row.clear()
            self._unpublished.answered()
            self._counted()
        self._window.count(now)
        if slow:
            self._window.count_slow(ticket.tenant_id)
            whose = self._window.whose_slowness(policy.min_calls, policy.slow_ratio)
            if whose is not None:
                self._open_or_widen(now, whose)

    def failed(self, now: float, ticket: Ticket, *, hung: bool = False) -> None:
        """Count a failure of the upstream; `hung` when it sent nothing in time."""
        self._waiting.discard(ticket)
        probe, ticket.probe = ticket.probe, False
        tenant_id = ticket.tenant_id
        if probe and self.state is not CircuitState.CLOSED:
            self._last_prober = tenant_id if self.open_for == ALL_TENANTS else None
            self._open(now, self.open_for)
            return
        if self.is_open_for(tenant_id):
            return
        self._window.count_failure(now, tenant_id)
        waited = now - ticket.began if hung else 0.0
        self._add(0 if ticket.suspected else 1, (tenant_id,), waited)
        self._suspect(now, waited)
        self._judge(now)

    def receive(self, now: float, counts: Counts) -> None:
        """Count what another replica has counted."""
        if counts.answered:
            self._row.clear()
            self._answered_at = now
        self._row.add(counts.failures, counts.tenants)
        if all(map(self.is_open_for, counts.tenants or (ALL_TENANTS,))):
            return
        self._suspect(now, counts.hung_for)
        self._judge(now)

    def take_counts(self) -> Counts:
        """Return what the other replicas have not received yet, and forget it."""
        return self._unpublished.take()

    def forget_row(self) -> None:
        """Forget the failures in a row: other replicas may have had an answer that was not heard."""
        self._row.clear()

    def abandoned(self, ticket: Ticket) -> None:
        """Note that a call ended without telling anything about the upstream: its client left, or it was not made."""
        self._waiting.discard(ticket)
        probe, ticket.probe = ticket.probe, False
        if probe and self.state is CircuitState.HALF_OPEN:
            self.state, self._probing_since = CircuitState.OPEN, None

    def rate_limited(self, now: float, wait: float | None, ticket: Ticket) -> None:
        """Make no call for `wait` seconds, within bounds: the provider said so. It works, though."""
        self._waiting.discard(ticket)
        self._answered_at = now
        if ticket.probe:
            ticket.probe = False
            self.close(now)
        policy = self._policy
        until = now + min(policy.rate_limit_rest if wait is None else wait, policy.max_rate_limit_rest)
        # A later time stays: another refusal named it.
        if until > self.resting_until:
            self.resting_until, self.clear = until, False
            self._changed()

    def account_refused(self, now: float, ticket: Ticket) -> None:
        """Make no call with this credential for some time, for no model."""
        self.abandoned(ticket)
        self.account.rest(now + self._policy.account_rest)
        self._changed()

    def open_remotely(self, until: float, open_for: str) -> None:
        """Open because another replica did. A probe that runs here goes on."""
        whose = open_for if self.state is CircuitState.CLOSED or open_for == self.open_for else ALL_TENANTS
        self.open_for = whose
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
        self.state, self.open_for = CircuitState.CLOSED, ALL_TENANTS
        self._probing_since, self._last_prober, self._closed_at = None, None, now
        self.granted_until = self.open_until = 0.0
        self._row.clear()
        self._unpublished.take()
        self._window.clear()
        if not remotely:
            self._changed()

    def awaits_grant(self, now: float) -> bool:
        """Whether a probe would be made here as soon as the other replicas consent."""
        wanted = self.wanted_at >= self.open_until and now - self.wanted_at < self._policy.grant_timeout
        return wanted and self.state is CircuitState.OPEN and now >= self.granted_until

    def figures(self) -> tuple[int, int, int]:
        """Return calls, failures and slow calls of the window."""
        return self._window.figures()

    def _may_probe(self, now: float, tenant_id: str) -> bool:
        policy = self._policy
        if tenant_id == self._last_prober and now < self.open_until + policy.probe_turn:
            return False
        if self.needs_grant and now >= self.granted_until and now < self.open_until + policy.grant_timeout:
            self.wanted_at = now
            return False
        return True

    def _add(self, failures: int, tenants: tuple[str, ...], hung_for: float) -> None:
        self._row.add(failures, tenants)
        self._unpublished.failed(failures, tenants, hung_for)
        self._counted()

    def _suspect(self, now: float, waited: float) -> None:
        """Count calls that have waited half as long as one that timed out, if nothing was answered since it began.

        They are very likely hung, too. They say nothing of their tenants until they have failed.
        """
        if waited < self._policy.min_hung or self._answered_at > now - waited:
            return
        longest = now - waited / 2
        found = [one for one in self._waiting if one.began <= longest and not one.suspected]
        for one in found:
            one.suspected = True
        if found:
            self._add(len(found), (), waited)

    def _judge(self, now: float) -> None:
        policy = self._policy
        in_row = self._row.whose(policy.failures_in_row)
        often = self._window.whose_failures(policy.min_calls, policy.failure_ratio)
        found = {in_row, often} - {None}
        if found:
            self._open_or_widen(now, (found.pop() if len(found) == 1 else None) or ALL_TENANTS)

    def _open_or_widen(self, now: float, whose: str) -> None:
        if self.state is CircuitState.CLOSED:
            self._open(now, whose)
        elif whose != self.open_for:
            # It was open for one tenant, and another one's calls fail as well.
            self.open_for, self.granted_until = ALL_TENANTS, 0.0
            self.open_until = max(self.open_until, now + self._policy.open_for)
            self._changed()

    def _open(self, now: float, whose: str) -> None:
        policy = self._policy
        if self.state is CircuitState.CLOSED and now - self._closed_at > 4 * policy.max_open_for:
            self._openings = 0
        self._openings += 1
        self.state, self.clear, self._probing_since = CircuitState.OPEN, False, None
        self.open_for, self.granted_until = whose, 0.0
        self.open_until = now + min(policy.open_for * 2.0 ** min(self._openings - 1, 16), policy.max_open_for)
        self._changed()

    def _counted(self) -> None:
        if self._on_count is not None:
            self._on_count(self)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self)
