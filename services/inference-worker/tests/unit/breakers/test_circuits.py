"""Circuits: when they open, rest and close, and which are forgotten."""

import pytest
from inference_worker.breakers import circuits as module
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.model import BlockReason, Circuit, CircuitPolicy, CircuitState
from inference_worker.breakers.retry_budget import RetryBudget
from inference_worker.breakers.telemetry import observe_circuits
from inference_worker.metrics import OPEN_CIRCUITS

POLICY = CircuitPolicy()


def a_circuit(model: str = "m", circuits: Circuits | None = None) -> Circuit:
    return (circuits or Circuits()).circuit("u", "c", model)


def fail(circuit: Circuit, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        circuit.failed(now, probe=False)


def test_failures_in_a_row_open_a_circuit_also_of_a_single_target():
    circuit = a_circuit()
    fail(circuit, POLICY.failures_in_row - 1)
    assert circuit.admit(0.0) is False

    fail(circuit, 1)

    assert circuit.state is CircuitState.OPEN
    assert circuit.admit(0.0) is None
    assert circuit.block(0.0) == (BlockReason.OPEN, POLICY.open_for)


def test_half_of_ten_calls_open_a_circuit_although_no_five_fail_in_a_row():
    circuit = a_circuit()
    for _ in range(5):
        circuit.succeeded(0.0, probe=False)
        circuit.failed(0.0, probe=False)

    assert circuit.state is CircuitState.OPEN


def test_first_bytes_that_are_slow_open_a_circuit():
    circuit = Circuits(CircuitPolicy(slow_first_byte=1.0)).circuit("u", "c", "m")
    for _ in range(10):
        circuit.succeeded(0.0, probe=False, first_byte=2.0)

    assert circuit.state is CircuitState.OPEN


def test_one_probe_at_a_time_decides():
    circuit = a_circuit()
    fail(circuit, 5)

    assert circuit.admit(1.0) is True
    assert circuit.admit(1.0) is None
    circuit.succeeded(1.5, probe=True)
    assert circuit.state is CircuitState.CLOSED
    assert circuit.admit(1.5) is False


def test_the_time_between_probes_doubles_up_to_its_bound():
    circuit, now, waits = a_circuit(), 0.0, []
    fail(circuit, 5)
    for _ in range(6):
        waits.append(circuit.open_until - now)
        now = circuit.open_until
        assert circuit.admit(now) is True
        circuit.failed(now, probe=True)

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_probe_that_hangs_and_one_that_fails_leave_time_for_a_third_within_fifteen_seconds():
    assert POLICY.probe_timeout + POLICY.max_open_for <= 12.0


def test_a_probe_that_was_not_made_lets_the_next_one_pass_at_once():
    circuit = a_circuit()
    fail(circuit, 5)
    assert circuit.admit(1.0) is True

    circuit.abandoned(probe=True)

    assert circuit.admit(1.0) is True


def test_a_later_rest_extends_an_earlier_one_and_a_shorter_one_does_not_end_it():
    circuit = a_circuit()
    circuit.rate_limited(0.0, 10.0, probe=False)
    circuit.rate_limited(1.0, 2.0, probe=False)

    assert circuit.block(5.0) == (BlockReason.RATE_LIMITED, 10.0)
    assert circuit.admit(10.0) is False


def test_a_refused_credential_rests_for_all_models_also_for_new_ones():
    circuits = Circuits()
    a_circuit("first", circuits).account_refused(0.0, probe=False)

    assert a_circuit("second", circuits).block(1.0) == (BlockReason.ACCOUNT, POLICY.account_rest)
    assert circuits.circuit("u", "another", "first").admit(1.0) is False


def test_closed_circuits_are_forgotten_before_open_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CIRCUITS", 3)
    circuits = Circuits()
    fail(a_circuit("open", circuits), 5)
    for model in ("closed", "other", "new"):
        a_circuit(model, circuits)

    assert [one.key.model for one in circuits] == ["open", "other", "new"]


def test_the_oldest_is_forgotten_where_all_are_open(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CIRCUITS", 2)
    circuits = Circuits()
    for model in ("a", "b", "c"):
        fail(a_circuit(model, circuits), 5)

    assert [one.key.model for one in circuits] == ["b", "c"]


def test_circuits_of_an_upstream_that_was_added_later_are_shown():
    circuits, upstreams = Circuits(), {"configured"}
    observe_circuits(circuits, upstreams, lambda: 0.0)
    upstreams.add("added-later")

    fail(circuits.circuit("added-later", "c", "m"), 5)
    fail(circuits.circuit("invented", "c", "m"), 5)

    shown = {one.labels["upstream"]: one.value for family in OPEN_CIRCUITS.collect() for one in family.samples}
    assert shown["added-later"] == 1
    assert "invented" not in shown


def test_retries_are_a_tenth_of_the_requests_beyond_the_reserve():
    budget = RetryBudget(ratio=0.1, reserve=5.0)
    made = 0
    for _ in range(1000):
        budget.deposit()
        made += budget.withdraw()

    assert 100 <= made <= 105


def test_a_retry_that_was_not_made_is_refunded():
    budget = RetryBudget(reserve=1.0)
    assert budget.withdraw()
    assert not budget.withdraw()
    budget.refund()
    assert budget.withdraw()
