"""All circuits of this worker, found by what a call is for."""

from collections.abc import Callable, Iterator
from itertools import islice

from inference_worker.breakers.circuit import AccountCircuit, Circuit
from inference_worker.breakers.model import CircuitKey, CircuitPolicy, CircuitState
from inference_worker.breakers.retry_budget import RetryBudget

MAX_CIRCUITS = 4096
"""Callers name models freely, so their number is bounded: the oldest that is closed is forgotten."""

POLLS_FOR_CLOSED = 256
"""Among so many of the oldest; when all of these are open, the oldest is forgotten."""


class Circuits:
    """The circuits, and who is told after one opened, closed or began to rest."""

    def __init__(
        self,
        policy: CircuitPolicy | None = None,
        new_budget: Callable[[], RetryBudget] = RetryBudget,
    ) -> None:
        self.policy = policy or CircuitPolicy()
        self._listeners: list[Callable[[Circuit], None]] = []
        self.on_count: Callable[[Circuit], None] | None = None
        """Called after a circuit of this process counted what other replicas should know."""
        self.needs_grant = False
        self._new_budget = new_budget
        self._circuits: dict[CircuitKey | tuple[str, str, str], Circuit] = {}
        self._accounts: dict[tuple[str, str], AccountCircuit] = {}
        self._budgets: dict[str, RetryBudget] = {}

    def circuit(self, upstream: str, account: str, model: str) -> Circuit:
        """Return the circuit, closed when it is new."""
        return self._circuits.get((upstream, account, model)) or self._new(CircuitKey(upstream, account, model))

    def account(self, upstream: str, account: str) -> AccountCircuit:
        """Return what is known of a credential."""
        known = self._accounts.get((upstream, account))
        if known is None:
            known = self._accounts[upstream, account] = AccountCircuit(upstream, account)
        return known

    def budget(self, upstream: str) -> RetryBudget:
        """Return the retry budget of an upstream."""
        budget = self._budgets.get(upstream)
        if budget is None:
            if len(self._budgets) >= MAX_CIRCUITS:
                self._budgets.clear()
            budget = self._budgets[upstream] = self._new_budget()
        return budget

    def listen(self, listener: Callable[[Circuit], None]) -> None:
        """Call `listener` after a circuit of this process changed by itself."""
        self._listeners.append(listener)

    def share(self, needed: bool) -> None:
        """Set whether probes need the consent of other replicas."""
        if needed == self.needs_grant:
            return
        self.needs_grant = needed
        for circuit in self._circuits.values():
            circuit.needs_grant = needed

    def __iter__(self) -> Iterator[Circuit]:
        return iter(tuple(self._circuits.values()))

    def _new(self, key: CircuitKey) -> Circuit:
        if len(self._circuits) >= MAX_CIRCUITS:
            oldest = islice(self._circuits.items(), POLLS_FOR_CLOSED)
            closed = (known for known, circuit in oldest if circuit.clear and circuit.state is CircuitState.CLOSED)
            self._forget(next(closed, next(iter(self._circuits))))
        account = self.account(key.upstream, key.account)
        circuit = Circuit(key, account, self.policy, self._changed, self._counted)
        circuit.needs_grant = self.needs_grant
        account.circuits.append(circuit)
        self._circuits[key] = circuit
        return circuit

    def _changed(self, circuit: Circuit) -> None:
        for listener in self._listeners:
            listener(circuit)

    def _counted(self, circuit: Circuit) -> None:
        if self.on_count is not None:
            self.on_count(circuit)

    def _forget(self, key: CircuitKey | tuple[str, str, str]) -> None:
        circuit = self._circuits.pop(key)
        circuit.account.circuits.remove(circuit)
        if not circuit.account.circuits:
            self._accounts.pop((circuit.account.upstream, circuit.account.account), None)
