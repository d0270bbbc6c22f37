"""Keys are looked up rarely, revoked at once, and never refused for a database that does not answer."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from gateway.domain.administration import Bootstrap
from gateway.domain.keys import ApiKey, InvalidApiKey, KeyExpired, KeyRevoked, mint_key, parse_key
from gateway.domain.principals import Admission, Trust
from gateway.domain.tenants import AuditEntry

from services.gateway.tests.fakes.directory import FakeDirectory
from services.gateway.tests.fakes.world import turns

TRUST = Trust(capacity=3, look_up=timedelta(milliseconds=50))


class Gate:
    """An admission over a directory with one good key."""

    def __init__(self) -> None:
        self.clock, self.directory = FakeClock(), FakeDirectory()
        self.admission = Admission(self.directory, self.clock, TRUST)
        self.admission.hear(True)
        _, text = mint_key("test")
        self.text, self.key = text.encode(), parse_key(text.encode())

    async def open(self) -> "Gate":
        self.record = await Bootstrap(self.directory, self.clock).ensure("demo", self.text.decode(), {"member"})
        self.directory.look_ups = 0
        return self

    async def enter(self, text: bytes | None = None) -> str:
        """The tenant that a key opens."""
        presented = text or self.text
        principal = self.admission.recall(presented) or await self.admission.admit(presented)
        return principal.tenant_id

    async def revoke(self) -> None:
        entry = AuditEntry(self.record.tenant_id, "evt_1", "key.revoke", "", "", "", "", {}, self.clock.now())
        await self.directory.revoke_key(self.record.tenant_id, self.key.key_id, self.clock.now(), entry)

    async def another(self, **fields: object) -> bytes:
        """One more key of the tenant."""
        minted, text = mint_key("test")
        made = replace(self.record, key_id=minted.key_id, sha256=minted.sha256, **fields)  # type: ignore[arg-type]
        entry = AuditEntry(made.tenant_id, f"evt_{made.key_id}", "key.create", "", "", "", "", {}, self.clock.now())
        await self.directory.add_key(made, entry)
        return text.encode()


@pytest.fixture
async def gate() -> Gate:
    return await Gate().open()


async def test_a_key_opens_its_tenant_with_its_roles_and_plan(gate: Gate) -> None:
    principal = await gate.admission.admit(gate.text)

    assert principal.tenant_id == gate.record.tenant_id
    assert principal.project_id == gate.record.project_id
    assert principal.key_id == gate.key.key_id
    assert principal.roles == {"member"}
    assert principal.plan == "standard"


async def test_a_key_is_looked_up_once(gate: Gate) -> None:
    for _ in range(3):
        await gate.enter()
    assert gate.directory.look_ups == 1


async def test_many_at_once_wait_for_one_look_up(gate: Gate) -> None:
    await asyncio.gather(*(gate.enter() for _ in range(20)))
    assert gate.directory.look_ups == 1


async def test_one_who_leaves_does_not_take_the_answer_from_those_who_wait(gate: Gate) -> None:
    first = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    second = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == gate.record.tenant_id


async def test_trust_ends_and_the_key_is_looked_up_again(gate: Gate) -> None:
    await gate.enter()
    gate.clock.advance(timedelta(seconds=29.9))
    await gate.enter()
    assert gate.directory.look_ups == 1
    gate.clock.advance(timedelta(seconds=0.2))
    await gate.enter()
    assert gate.directory.look_ups == 2


async def test_a_revoked_key_is_refused_as_soon_as_it_is_heard(gate: Gate) -> None:
    await gate.enter()
    await gate.revoke()
    await gate.enter()  # not heard yet

    gate.admission.forget(gate.key.key_id)

    with pytest.raises(KeyRevoked):
        await gate.enter()


async def test_while_nothing_is_heard_trust_lasts_less_than_a_second(gate: Gate) -> None:
    await gate.enter()
    await gate.revoke()
    gate.admission.hear(False)

    gate.clock.advance(timedelta(seconds=0.6))

    with pytest.raises(KeyRevoked):
        await gate.enter()


async def test_what_was_missed_is_checked_when_hearing_again(gate: Gate) -> None:
    await gate.enter()
    gate.admission.hear(False)
    await gate.revoke()

    gate.admission.hear(True)

    with pytest.raises(KeyRevoked):
        await gate.enter()


async def test_a_revocation_that_overtakes_a_look_up_is_not_forgotten(gate: Gate) -> None:
    class SlowKeys:
        """Reads the record, then takes its time to answer."""

        answer = asyncio.Event()

        async def find_key(self, key_id: str) -> ApiKey | None:
            found = await gate.directory.find_key(key_id)
            await self.answer.wait()
            return found

    slow = SlowKeys()
    admission = Admission(slow, gate.clock, Trust())
    admission.hear(True)
    entering = asyncio.create_task(admission.admit(gate.text))
    await turns()

    await gate.revoke()
    admission.forget(gate.key.key_id)
    slow.answer.set()
    await entering  # it was good when it was looked up

    assert admission.recall(gate.text) is None
    with pytest.raises(KeyRevoked):
        await admission.admit(gate.text)


async def test_a_malformed_key_never_reaches_the_database(gate: Gate) -> None:
    gate.directory.down = True
    for text in (b"sk-123", gate.text[:-1] + (b"0" if gate.text[-1:] != b"0" else b"1"), b"\xff\x00"):
        with pytest.raises(InvalidApiKey):
            await gate.enter(text)


async def test_a_key_that_nobody_has_is_refused_and_remembered_for_a_while(gate: Gate) -> None:
    stranger = mint_key("test")[1].encode()
    for _ in range(3):
        with pytest.raises(InvalidApiKey):
            await gate.enter(stranger)
    assert gate.directory.look_ups == 1

    gate.clock.advance(timedelta(seconds=6))
    with pytest.raises(InvalidApiKey):
        await gate.enter(stranger)
    assert gate.directory.look_ups == 2


async def test_the_right_id_with_another_secret_is_refused_and_harms_nobody(gate: Gate) -> None:
    _, text = mint_key("test")
    forged = replace(parse_key(text.encode()), key_id=gate.key.key_id)
    await gate.enter()

    with pytest.raises(InvalidApiKey):
        gate.admission._judge(forged, await gate.directory.find_key(gate.key.key_id))
    assert await gate.enter() == gate.record.tenant_id


async def test_an_expired_key_is_refused_to_the_second(gate: Gate) -> None:
    text = await gate.another(expires_at=gate.clock.now() + timedelta(seconds=10))
    await gate.enter(text)
    gate.clock.advance(timedelta(seconds=9.9))
    await gate.enter(text)

    gate.clock.advance(timedelta(seconds=0.1))

    with pytest.raises(KeyExpired):
        await gate.enter(text)


async def test_while_the_database_is_down_who_was_seen_goes_on_and_strangers_wait(gate: Gate) -> None:
    stranger = await gate.another()
    await gate.enter()
    gate.directory.down = True
    gate.clock.advance(timedelta(minutes=5))

    assert await gate.enter() == gate.record.tenant_id
    with pytest.raises(Unavailable):
        await gate.enter(stranger)

    gate.clock.advance(timedelta(hours=1))
    with pytest.raises(Unavailable):
        await gate.enter()  # nobody is trusted for ever


async def test_a_database_that_is_down_is_not_asked_at_every_request(gate: Gate) -> None:
    await gate.enter()
    gate.directory.down = True
    gate.clock.advance(timedelta(minutes=5))
    await gate.enter()

    assert gate.admission.recall(gate.text) is not None


async def test_a_revoked_key_is_not_revived_by_a_database_that_is_down(gate: Gate) -> None:
    await gate.enter()
    await gate.revoke()
    gate.admission.forget(gate.key.key_id)
    gate.directory.down = True

    with pytest.raises(Unavailable):
        await gate.enter()


async def test_a_database_that_says_nothing_is_not_waited_for(gate: Gate) -> None:
    class SilentKeys:
        async def find_key(self, key_id: str) -> ApiKey | None:
            await asyncio.Event().wait()
            return None

    admission = Admission(SilentKeys(), gate.clock, TRUST)
    with pytest.raises(Unavailable) as caught:
        await admission.admit(gate.text)
    assert caught.value.retry_after == timedelta(seconds=1)


async def test_memory_has_a_bound(gate: Gate) -> None:
    texts = [await gate.another() for _ in range(5)]
    for text in texts:
        await gate.enter(text)
    assert [gate.admission.recall(text) is not None for text in texts] == [False, False, True, True, True]

    strangers = [mint_key("test")[1].encode() for _ in range(9)]
    for text in strangers:
        with pytest.raises(InvalidApiKey):
            await gate.enter(text)
    assert len(gate.admission._refused) <= 3
    assert gate.admission.recall(texts[-1]) is not None  # strangers do not push friends out
