"""What the circuits of an upstream tell of its health."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.counts import ALL_TENANTS
from inference_worker.breakers.model import CircuitState

MAX_SHOWN: Final = 100


class CircuitHealth(NamedTuple):
    """One circuit; times are seconds from now."""

    credential_id: str
    model: str
    state: CircuitState
    probe_in: float
    rests_for: float
    credential_rests_for: float
    calls: int
    failures: int
    slow: int
    only_tenant_id: str
    """The tenant whose calls alone are not made; empty when that is not so."""


def upstream_health(circuits: Iterable[Circuit], upstream: str, now: float) -> tuple[Sequence[CircuitHealth], int]:
    """Return the circuits of an upstream, those with faults first, and how many were left out."""
    found = sorted((_health(one, now) for one in circuits if one.key.upstream == upstream), key=_faulty_first)
    return found[:MAX_SHOWN], max(0, len(found) - MAX_SHOWN)


def _health(circuit: Circuit, now: float) -> CircuitHealth:
    is_open = circuit.state is CircuitState.OPEN
    calls, failures, slow = circuit.figures()
    return CircuitHealth(
        circuit.key.account,
        circuit.key.model,
        circuit.state,
        max(0.0, circuit.open_until - now) if is_open else 0.0,
        max(0.0, circuit.resting_until - now),
        max(0.0, circuit.account.resting_until - now),
        calls,
        failures,
        slow,
        "" if circuit.state is CircuitState.CLOSED or circuit.open_for == ALL_TENANTS else circuit.open_for,
    )


def _faulty_first(one: CircuitHealth) -> tuple[object, ...]:
    rests = max(one.rests_for, one.credential_rests_for) > 0
    return one.state is CircuitState.CLOSED, not rests, -one.failures, one.model, one.credential_id
