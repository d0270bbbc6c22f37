"""Circuits of several replicas: what one finds, the others know; without Redis each is alone."""

from dataclasses import dataclass, field

import pytest
from chassis.errors import Unavailable
from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import ALL_TENANTS, Ticket
from inference_worker.breakers.model import BlockReason, CircuitState
from inference_worker.breakers.schedule import IDLE_SECONDS, POLL_SECONDS, CircuitSharing

A, B = "ten_a", "ten_b"


@dataclass
class Hub:
    """A Redis in memory."""

    replicas: list["Replica"] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    down: bool = False
    messages: int = 0


class Replica:
    """Implements `CircuitExchange` for its own circuits, whose clock began at another time than the others'."""

    def __init__(self, hub: Hub, clock: float) -> None:
        self.hub, self.now = hub, clock
        self.circuits = Circuits()
        self.sharing = CircuitSharing(self.circuits, self, f"worker_{len(hub.replicas)}", lambda: self.now)
        hub.replicas.append(self)

    async def publish(self, message: bytes) -> None:
        self._check()
        self.hub.messages += 1
        for one in self.hub.replicas:
            await one.sharing.receive(message)

    async def claim(self, name: str, seconds: float) -> bool:
        self._check()
        free = name not in self.hub.names
        self.hub.names.add(name)
        return free

    async def release(self, name: str) -> None:
        self._check()
        self.hub.names.discard(name)

    def _check(self) -> None:
        if self.hub.down:
            raise Unavailable("redis does not answer")

    @property
    def circuit(self) -> Circuit:
        return self.circuits.circuit("u", "c", "m")

    def fail(self, times: int = 5, tenant: str = A) -> None:
        for _ in range(times):
            self.circuit.failed(self.now, Ticket(self.now, tenant))

    def admit(self, tenant: str = A) -> Ticket | None:
        return self.circuit.admit(self.now, tenant)

    def block(self, tenant: str = A) -> object:
        return self.circuit.block(self.now, tenant)


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def settled(hub: Hub) -> tuple[Replica, ...]:
    """Return two replicas that know of each other."""
    replicas = (Replica(hub, 1_000.0), Replica(hub, 7.0))
    await exchanged(replicas)
    return replicas


async def exchanged(replicas: tuple[Replica, ...]) -> None:
    for _ in range(2):
        for one in replicas:
            await one.sharing.exchange()


async def test_a_circuit_that_opens_is_open_on_all_replicas_for_the_time_that_is_left(hub: Hub) -> None:
    first, second = await settled(hub)
    first.fail()
    first.now += 0.25
    await first.sharing.exchange()

    assert second.block() == (BlockReason.OPEN, 7.75)


async def test_one_replica_at_a_time_makes_the_probe_and_its_success_closes_all(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    first.fail()
    await exchanged(replicas)
    for one in replicas:
        one.now += 1.0
        assert one.admit() is None  # asks for the probe
    await exchanged(replicas)

    admitted = [(one, ticket) for one in replicas if (ticket := one.admit()) is not None]
    ((prober, probe),) = admitted
    prober.circuit.succeeded(prober.now, probe)
    await exchanged(replicas)

    assert [one.circuit.state for one in replicas] == [CircuitState.CLOSED] * 2
    assert hub.names == set()
    assert second.admit() is not None


async def test_a_probe_that_fails_opens_all_again_and_frees_the_name(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    first.fail()
    await exchanged(replicas)
    for one in replicas:
        one.now += 1.0
    assert first.admit() is None
    await exchanged(replicas)
    probe = first.admit()
    assert probe is not None

    first.circuit.failed(first.now, probe)
    await exchanged(replicas)

    assert second.block() is not None
    assert hub.names == set()


async def test_rests_of_models_and_of_accounts_are_shared(hub: Hub) -> None:
    first, second = await settled(hub)
    first.circuit.rate_limited(first.now, 4.0, Ticket(first.now, A))
    await first.sharing.exchange()
    assert second.block() == (BlockReason.RATE_LIMITED, 11.0)

    first.circuit.account_refused(first.now, Ticket(first.now, A))
    await first.sharing.exchange()
    assert second.circuits.circuit("u", "c", "other").block(second.now, A) == (BlockReason.ACCOUNT, 37.0)


async def test_a_replica_that_starts_later_asks_for_what_is_open(hub: Hub) -> None:
    first, second = await settled(hub)
    first.fail()
    await exchanged((first, second))
    third = Replica(hub, 50.0)
    await exchanged((third, first))

    assert third.block() == (BlockReason.OPEN, 51.0)


async def test_without_redis_each_replica_goes_on_alone_and_after_its_return_they_share_again(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    hub.down = True
    first.fail()
    await exchanged(replicas)
    first.now += 1.0

    assert second.admit() is not None
    probe = first.admit()
    assert probe is not None  # without asking anyone
    first.circuit.failed(first.now, probe)

    hub.down = False
    await exchanged(replicas)
    assert second.block() == (BlockReason.OPEN, 9.0)


async def test_nothing_is_echoed(hub: Hub) -> None:
    first, second = await settled(hub)
    first.fail()
    await first.sharing.exchange()
    before = hub.messages
    await second.sharing.exchange()

    assert hub.messages == before + 1
    assert first.circuit.open_until == first.now + 1.0


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b"{", b"{}", b'{"replica": "x"}', b'{"replica": "x", "circuits": [{"key": []}]}',
     b'{"replica": "x", "circuits": 7}', b'{"replica": "x", "circuits": [], "counts": [{"key": ["u", "c", "m"]}]}',
     b'{"replica": "x", "circuits": [], "counts": [{"key": ["u", "c", "m"], "failures": "many"}]}',
     b'{"replica": "x", "circuits": [{"key": ["u", "c", "m"], "open": "soon"}]}'],
)  # fmt: skip
async def test_messages_that_cannot_be_read_change_nothing(hub: Hub, message: bytes) -> None:
    first, _ = await settled(hub)
    await first.sharing.receive(message)

    assert first.admit() is not None


async def test_times_of_others_are_bounded_by_the_own_policy(hub: Hub) -> None:
    first, _ = await settled(hub)
    one = '{"key": ["u", "c", "m"], "closed": false, "open": 9e9, "limited": 9e9, "account": 9e9}'
    await first.sharing.receive(f'{{"replica": "x", "circuits": [{one}]}}'.encode())

    policy = first.circuits.policy
    assert first.circuit.open_until == first.now + policy.max_open_for
    assert first.circuit.resting_until == first.now + policy.max_rate_limit_rest
    assert first.circuit.account.resting_until == first.now + policy.account_rest


async def test_failures_of_all_replicas_count_together(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    first.fail(3)
    second.fail(2)
    await exchanged(replicas)

    assert [one.circuit.state for one in replicas] == [CircuitState.OPEN] * 2
    assert [one.circuit.open_for for one in replicas] == [A] * 2


async def test_tenants_of_all_replicas_count_together(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    first.fail(4, A)
    second.fail(1, B)
    await exchanged(replicas)

    assert [one.circuit.open_for for one in replicas] == [ALL_TENANTS] * 2


async def test_what_is_open_for_one_tenant_is_so_on_all_replicas_until_another_one_fails_anywhere(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    first.fail(5, A)
    await exchanged(replicas)
    assert second.block(A) is not None
    assert second.admit(B) is not None

    second.fail(1, B)
    await exchanged(replicas)
    assert first.block("ten_c") is not None


async def test_an_answer_anywhere_ends_the_row(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    for _ in range(10):
        first.fail(3)
        await first.sharing.exchange()
        second.circuit.succeeded(second.now, Ticket(second.now, A))
        first.now, second.now = first.now + 20, second.now + 20  # calls of a window are counted, too
        await exchanged(replicas)

    assert [one.circuit.state for one in replicas] == [CircuitState.CLOSED] * 2


async def test_answers_without_a_failure_before_them_are_not_told(hub: Hub) -> None:
    first, _ = await settled(hub)
    noted: list[object] = []
    first.circuits.on_count = noted.append
    for _ in range(100):
        first.circuit.succeeded(first.now, Ticket(first.now, A))
    assert noted == []

    first.fail(1)
    for _ in range(100):
        first.circuit.succeeded(first.now, Ticket(first.now, A))
    assert len(noted) == 2


async def test_a_time_out_on_one_replica_makes_the_calls_that_wait_on_others_suspect(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    hung = first.admit()
    assert hung is not None
    for one in (first, first, second, second):
        assert one.admit() is not None
    for one in replicas:
        one.now += 30.0
    first.circuit.failed(first.now, hung, hung=True)
    assert first.circuit.state is CircuitState.CLOSED
    await exchanged(replicas)

    assert [one.circuit.state for one in replicas] == [CircuitState.OPEN] * 2


async def test_without_redis_each_replica_counts_alone_and_tells_nothing_old_later(hub: Hub) -> None:
    replicas = first, second = await settled(hub)
    hub.down = True
    first.fail(4)
    second.fail(4)
    await exchanged(replicas)
    hub.down = False
    await exchanged(replicas)
    assert [one.circuit.state for one in replicas] == [CircuitState.CLOSED] * 2

    first.fail(1)
    assert first.circuit.state is CircuitState.OPEN


async def test_who_was_not_connected_counts_anew(hub: Hub) -> None:
    first, second = await settled(hub)
    first.fail(4)
    await first.sharing.exchange()
    await second.sharing.connected()
    second.fail(1)

    assert second.circuit.state is CircuitState.CLOSED


async def test_it_looks_often_only_while_a_probe_needs_consent(hub: Hub) -> None:
    first, _ = await settled(hub)
    assert first.sharing.pause_seconds() == IDLE_SECONDS
    first.fail()
    await first.sharing.exchange()
    assert first.sharing.pause_seconds() == POLL_SECONDS

    first.now = first.circuit.open_until + first.circuits.policy.grant_timeout
    assert first.sharing.pause_seconds() == IDLE_SECONDS
    assert first.admit() is not None
