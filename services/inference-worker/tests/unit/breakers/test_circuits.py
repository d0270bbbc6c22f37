"""Circuits: when they open, rest and close, and which are forgotten."""

import pytest
from inference_worker.breakers import circuits as module
from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import ALL_TENANTS, Ticket
from inference_worker.breakers.model import BlockReason, CircuitPolicy, CircuitState
from inference_worker.breakers.retry_budget import RetryBudget
from inference_worker.breakers.telemetry import observe_circuits
from inference_worker.metrics import OPEN_CIRCUITS

POLICY = CircuitPolicy()
A, B = "ten_a", "ten_b"


def a_circuit(model: str = "m", circuits: Circuits | None = None) -> Circuit:
    return (circuits or Circuits()).circuit("u", "c", model)


def fail(circuit: Circuit, times: int, now: float = 0.0, tenant: str = A) -> None:
    for _ in range(times):
        circuit.failed(now, Ticket(now, tenant))


def succeed(circuit: Circuit, now: float = 0.0, tenant: str = A, **fields: float) -> None:
    circuit.succeeded(now, Ticket(now, tenant), **fields)


def admitted(circuit: Circuit, now: float, tenant: str = A) -> Ticket:
    """The ticket of a call that is admitted."""
    ticket = circuit.admit(now, tenant)
    assert ticket is not None
    return ticket


def probing(circuit: Circuit, now: float, tenant: str = A) -> Ticket:
    """The ticket of a call that is admitted as the probe."""
    ticket = admitted(circuit, now, tenant)
    assert ticket.probe
    return ticket


def test_failures_in_a_row_open_a_circuit_also_of_a_single_target():
    circuit = a_circuit()
    fail(circuit, POLICY.failures_in_row - 1)
    assert not admitted(circuit, 0.0).probe

    fail(circuit, 1)

    assert circuit.state is CircuitState.OPEN
    assert circuit.admit(0.0, A) is None
    assert circuit.block(0.0, A) == (BlockReason.OPEN, POLICY.open_for)


def test_half_of_ten_calls_open_a_circuit_although_no_five_fail_in_a_row():
    circuit = a_circuit()
    for _ in range(5):
        succeed(circuit)
        fail(circuit, 1)

    assert circuit.state is CircuitState.OPEN


def test_first_bytes_that_are_slow_open_a_circuit():
    circuit = Circuits(CircuitPolicy(slow_first_byte=1.0)).circuit("u", "c", "m")
    for _ in range(10):
        succeed(circuit, first_byte=2.0)

    assert circuit.state is CircuitState.OPEN


def test_a_probe_that_is_slow_keeps_it_open():
    circuit = Circuits(CircuitPolicy(slow_first_byte=1.0)).circuit("u", "c", "m")
    for _ in range(10):
        succeed(circuit, first_byte=2.0)
    circuit.succeeded(3.0, probing(circuit, 1.0), first_byte=2.0)
    assert circuit.block(3.0, A) == (BlockReason.OPEN, 5.0)

    circuit.succeeded(5.5, probing(circuit, 5.0), first_byte=0.5)
    assert circuit.state is CircuitState.CLOSED


def test_one_probe_at_a_time_decides():
    circuit = a_circuit()
    fail(circuit, 5)

    probe = probing(circuit, 1.0)
    assert circuit.admit(1.0, A) is None
    circuit.succeeded(1.5, probe)
    assert circuit.state is CircuitState.CLOSED
    assert not admitted(circuit, 1.5).probe


def test_a_call_whose_answer_began_and_broke_off_is_no_probe_any_more():
    circuit = a_circuit()
    fail(circuit, 5)
    probe = probing(circuit, 1.0)
    circuit.succeeded(1.5, probe)

    circuit.failed(1.6, probe)

    assert circuit.state is CircuitState.CLOSED
    assert circuit.figures() == (1, 1, 0)


def test_the_time_between_probes_doubles_up_to_its_bound():
    circuit, now, waits = a_circuit(), 0.0, []
    fail(circuit, 5)
    for _ in range(6):
        waits.append(circuit.open_until - now)
        now = circuit.open_until
        circuit.failed(now, probing(circuit, now))

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_probe_that_hangs_and_one_that_fails_leave_time_for_a_third_within_fifteen_seconds():
    assert POLICY.probe_timeout + POLICY.max_open_for + POLICY.probe_turn <= 12.0


def test_a_probe_that_was_not_made_lets_the_next_one_pass_at_once():
    circuit = a_circuit()
    fail(circuit, 5)

    circuit.abandoned(probing(circuit, 1.0))

    assert probing(circuit, 1.0) is not None


def test_a_later_rest_extends_an_earlier_one_and_a_shorter_one_does_not_end_it():
    circuit = a_circuit()
    circuit.rate_limited(0.0, 10.0, admitted(circuit, 0.0))
    circuit.rate_limited(1.0, 2.0, Ticket(0.0, A))

    assert circuit.block(5.0, A) == (BlockReason.RATE_LIMITED, 10.0)
    assert admitted(circuit, 10.0) is not None


def test_a_refused_credential_rests_for_all_models_also_for_new_ones():
    circuits = Circuits()
    a_circuit("first", circuits).account_refused(0.0, Ticket(0.0, A))

    assert a_circuit("second", circuits).block(1.0, A) == (BlockReason.ACCOUNT, POLICY.account_rest)
    assert admitted(circuits.circuit("u", "another", "first"), 1.0) is not None


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


def test_failures_of_one_tenant_open_a_circuit_for_that_tenant_alone():
    circuit = a_circuit()
    fail(circuit, 100)

    assert circuit.admit(0.0, A) is None
    assert not admitted(circuit, 0.0, B).probe
    succeed(circuit, 0.1, B)
    assert circuit.admit(0.1, A) is None


def test_what_is_open_for_a_tenant_that_does_not_come_back_is_closed_by_an_answer_to_another_one():
    circuit = a_circuit()
    fail(circuit, 5, 0.0, A)
    succeed(circuit, circuit.open_until + POLICY.window, B)
    assert circuit.is_open_for(A)

    succeed(circuit, circuit.open_until + POLICY.window + 1, B)
    assert not circuit.is_open_for(A)


def test_the_first_failure_of_another_tenant_opens_it_for_all():
    circuit = a_circuit()
    fail(circuit, 5, 0.0, A)
    fail(circuit, 1, 0.5, B)

    assert circuit.open_for == ALL_TENANTS
    assert circuit.block(0.5, "ten_c") == (BlockReason.OPEN, 1.5)


def test_after_an_answer_to_another_tenant_it_takes_as_many_failures_of_that_one_as_ever():
    circuit = a_circuit()
    fail(circuit, 5, 0.0, A)
    succeed(circuit, 0.1, B)
    fail(circuit, 4, 20.0, B)
    assert circuit.open_for == A

    fail(circuit, 1, 20.0, B)
    assert circuit.open_for == ALL_TENANTS


def test_five_failures_of_two_tenants_open_it_for_all():
    circuit = a_circuit()
    fail(circuit, 3, 0.0, A)
    fail(circuit, 2, 0.0, B)

    assert circuit.admit(0.0, "ten_c") is None


def test_many_failures_of_one_tenant_among_answers_to_others_open_it_for_that_tenant_alone():
    circuit = a_circuit()
    for _ in range(10):
        fail(circuit, 4, 0.0, A)
        succeed(circuit, 0.0, B)

    assert circuit.open_for == A
    assert admitted(circuit, 0.0, B) is not None


def test_slow_answers_to_one_tenant_open_it_for_that_tenant_alone():
    circuit = Circuits(CircuitPolicy(slow_first_byte=1.0)).circuit("u", "c", "m")
    for number in range(20):
        succeed(circuit, 0.0, A, first_byte=2.0)
        if number % 5 == 0:
            succeed(circuit, 0.0, B, first_byte=0.1)

    assert circuit.open_for == A
    assert admitted(circuit, 0.0, B) is not None


def test_what_only_one_tenants_probe_decides_leaves_the_others_alone():
    circuit = a_circuit()
    fail(circuit, 5, 0.0, A)
    probe = probing(circuit, 1.0, A)
    assert not admitted(circuit, 1.0, B).probe

    circuit.failed(1.1, probe)
    assert circuit.open_for == A
    circuit.succeeded(3.2, probing(circuit, 3.2, A))
    assert circuit.state is CircuitState.CLOSED


def test_a_tenant_whose_probe_failed_lets_another_one_make_the_next():
    circuit = a_circuit()
    fail(circuit, 4, 0.0, A)
    fail(circuit, 1, 0.0, B)
    circuit.failed(1.0, probing(circuit, 1.0, A))
    due = circuit.open_until

    assert circuit.admit(due, A) is None
    assert probing(circuit, due, B) is not None


def test_a_tenant_that_is_alone_makes_the_next_probe_a_little_later():
    circuit = a_circuit()
    fail(circuit, 4, 0.0, A)
    fail(circuit, 1, 0.0, B)
    circuit.failed(1.0, probing(circuit, 1.0, A))

    assert probing(circuit, circuit.open_until + POLICY.probe_turn, A) is not None


def test_one_time_out_opens_a_circuit_when_enough_others_have_waited_half_as_long_and_nothing_was_answered():
    circuit = a_circuit()
    first, *_ = [admitted(circuit, at) for at in (0.0, 5.0, 10.0, 14.0, 15.0, 29.0)]
    circuit.failed(30.0, first, hung=True)

    assert circuit.state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("last_began", "answered"), [(16.0, False), (15.0, True)], ids=["one began too late", "something was answered"]
)
def test_one_time_out_is_one_failure_when(last_began: float, answered: bool):
    circuit = a_circuit()
    first, *_ = [admitted(circuit, at) for at in (0.0, 5.0, 10.0, 14.0, last_began)]
    if answered:
        succeed(circuit, 1.0)
    circuit.failed(30.0, first, hung=True)

    assert circuit.state is CircuitState.CLOSED


def test_calls_that_only_wait_open_no_circuit_for_their_tenants():
    circuit = a_circuit()
    hung = admitted(circuit, 0.0, A)
    waiting = [admitted(circuit, 1.0, B) for _ in range(4)]
    circuit.failed(30.0, hung, hung=True)
    assert circuit.open_for == A

    circuit.failed(31.0, waiting[0], hung=True)
    assert circuit.open_for == ALL_TENANTS


def test_an_upstream_that_gives_up_at_once_makes_no_waiting_call_suspect():
    circuit = a_circuit()
    first, *_ = [admitted(circuit, 0.0) for _ in range(10)]
    circuit.failed(0.5, first, hung=True)

    assert circuit.state is CircuitState.CLOSED
