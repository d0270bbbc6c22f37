"""What the worker tells of its upstreams."""

import pytest
from argosy.inference.v1 import inference_pb2 as pb
from chassis.errors import PermissionDenied
from chassis.tenancy import Principal, as_caller
from chassis.testing import a_caller
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import Ticket
from inference_worker.breakers.health import MAX_SHOWN
from inference_worker.upstreams.grpc import UpstreamMethods
from values.roles import PLATFORM_ADMIN, SERVICE

NOW = 1_000.0
TICKET = Ticket(NOW, "ten_1")


def some_methods() -> tuple[UpstreamMethods, Circuits]:
    circuits = Circuits()
    return UpstreamMethods({"u", "v"}, circuits, lambda: NOW), circuits


async def described(methods: UpstreamMethods, name: str, role: str = PLATFORM_ADMIN) -> pb.DescribeUpstreamResponse:
    with as_caller(a_caller(Principal("ten_1", roles=frozenset({role})))):
        return await methods.describe(pb.DescribeUpstreamRequest(name=name), None)


async def test_the_circuits_of_an_upstream_come_with_faults_first():
    methods, circuits = some_methods()
    circuits.circuit("v", "crd_1", "of another upstream").failed(NOW, TICKET)
    circuits.circuit("u", "crd_1", "good").succeeded(NOW, TICKET)
    circuits.circuit("u", "crd_1", "shaky").failed(NOW, TICKET)
    circuits.circuit("u", "crd_1", "limited").rate_limited(NOW, 7.0, TICKET)
    circuits.circuit("u", "crd_2", "refused").account_refused(NOW, TICKET)
    for _ in range(5):
        circuits.circuit("u", "crd_1", "dead").failed(NOW, TICKET)

    health = (await described(methods, "u", SERVICE)).health

    assert [one.model for one in health.circuits] == ["dead", "limited", "refused", "shaky", "good"]
    dead, limited, refused, shaky, good = health.circuits
    assert (dead.state, dead.probe_in.ToSeconds(), dead.failures) == (pb.CIRCUIT_STATE_OPEN, 1, 5)
    assert (limited.state, limited.rests_for.ToSeconds()) == (pb.CIRCUIT_STATE_CLOSED, 7)
    assert (refused.credential_id, refused.credential_rests_for.ToSeconds()) == ("crd_2", 30)
    assert [(one.calls, one.failures) for one in (shaky, good)] == [(1, 1), (1, 0)]
    assert [one.only_tenant_id for one in health.circuits] == ["ten_1", "", "", "", ""]


async def test_a_circuit_that_is_open_for_all_names_no_tenant():
    methods, circuits = some_methods()
    for number in range(5):
        circuits.circuit("u", "crd_1", "dead").failed(NOW, Ticket(NOW, f"ten_{number}"))
    (one,) = (await described(methods, "u")).health.circuits

    assert (one.state, one.only_tenant_id) == (pb.CIRCUIT_STATE_OPEN, "")


async def test_an_open_circuit_whose_probe_runs_is_half_open():
    methods, circuits = some_methods()
    circuit = circuits.circuit("u", "crd_1", "dead")
    for _ in range(5):
        circuit.failed(NOW - 10, TICKET)
    circuit.admit(NOW, "ten_1")
    (one,) = (await described(methods, "u")).health.circuits

    assert (one.state, one.probe_in.ToSeconds()) == (pb.CIRCUIT_STATE_HALF_OPEN, 0)


async def test_many_circuits_are_cut_and_counted():
    methods, circuits = some_methods()
    for number in range(MAX_SHOWN + 3):
        circuits.circuit("u", "crd_1", f"m{number}")
    health = (await described(methods, "u")).health

    assert (len(health.circuits), health.left_out) == (MAX_SHOWN, 3)


async def test_an_upstream_without_calls_is_known_and_another_is_not():
    methods, _ = some_methods()

    assert (await described(methods, "v")).HasField("health")
    assert not (await described(methods, "nowhere")).HasField("health")


async def test_tenants_are_told_nothing():
    methods, _ = some_methods()
    with pytest.raises(PermissionDenied):
        await described(methods, "u", "member")
    with as_caller(a_caller(Principal("ten_1", roles=frozenset({"member"})))), pytest.raises(PermissionDenied):
        await methods.list(pb.ListUpstreamsRequest(), None)
