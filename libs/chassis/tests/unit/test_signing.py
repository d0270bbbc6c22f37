"""Signed events: only records of a holder of a signing key are handled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chassis.errors import ArgosyError
from chassis.kafka import Record
from chassis.kafka.delivery import MAX_CONSECUTIVE_DEAD_LETTERS, Delivery
from chassis.kafka.publisher import RecordTooLarge
from chassis.kafka.record import KEY_ID_HEADER, SIGNATURE_HEADER, SigningKeys
from chassis.telemetry.metrics import exposition
from pydantic import SecretStr

OLD, NEW = (
    SecretStr("old:a-secret-of-events-with-40-characters-00"),
    SecretStr("new:another-secret-of-events-40-chars-11"),
)
KEYS = SigningKeys([OLD])
EVENT = Record("argosy.usage", b"ten_a", b"3 tokens", {"traceparent": "00-1"})


def test_a_signed_record_is_verified_and_keeps_its_other_headers() -> None:
    signed = KEYS.sign(EVENT)

    assert KEYS.problem(signed) is None
    assert signed.headers["traceparent"] == "00-1"
    assert signed.headers[KEY_ID_HEADER] == "old"


@pytest.mark.parametrize(
    ("forged", "problem"),
    [
        (EVENT, "not signed"),
        (KEYS.sign(EVENT)._replace(value=b"9 tokens"), "wrong"),
        (KEYS.sign(EVENT)._replace(key=b"ten_b"), "wrong"),
        (KEYS.sign(EVENT)._replace(topic="argosy.prices"), "wrong"),
        (KEYS.sign(EVENT)._replace(key=b"ten_a3", value=b" tokens"), "wrong"),
        (SigningKeys([NEW]).sign(EVENT), "unknown key"),
        (SigningKeys([SecretStr("old:a-guess-that-is-not-the-secret-at-all-00")]).sign(EVENT), "wrong"),
        (EVENT._replace(headers={KEY_ID_HEADER: "old", SIGNATURE_HEADER: "\udcff"}), "wrong"),
        (EVENT._replace(headers={KEY_ID_HEADER: "old"}), "not signed"),
    ],
)
def test_a_forged_record_is_recognized(forged: Record, problem: str) -> None:
    found = KEYS.problem(forged)

    assert found is not None
    assert problem in found


def test_keys_are_rotated_without_a_pause() -> None:
    for before, after in [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (NEW,))]:
        # During each step, processes have the keys of before or after, and both publish and consume.
        for signer in (before, after):
            for verifier in (before, after):
                assert SigningKeys(verifier).problem(SigningKeys(signer).sign(EVENT)) is None


class FakeDeadLetters:
    def __init__(self) -> None:
        self.letters: list[Record] = []
        self.max_bytes = 1024

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        (letter,) = records
        if len(letter.value) > self.max_bytes:
            return [RecordTooLarge("too large")]
        self.letters.append(letter)
        return [None]


class Deliveries:
    """A delivery with what its handler received."""

    def __init__(self, *, many: bool) -> None:
        self.handled: list[bytes] = []
        self.dead = FakeDeadLetters()
        self.delivery = Delivery(
            None if many else self._handle, self._handle_many if many else None, self.dead, KEYS.problem
        )

    async def _handle(self, record: Record) -> None:
        if record.value == b"later":
            raise ConnectionError("the database is away")
        self.handled.append(record.value)

    async def _handle_many(self, records: list[Record]) -> None:
        if any(record.value == b"later" for record in records):
            raise ConnectionError("the database is away")
        self.handled += [record.value for record in records]


@pytest.fixture(params=[False, True], ids=["one by one", "in batches"])
def deliveries(request: pytest.FixtureRequest) -> Deliveries:
    return Deliveries(many=request.param)


def signed(value: bytes, offset: int) -> Record:
    return KEYS.sign(Record("t", b"ten_a", value, partition=1, offset=offset))


def unsigned(value: bytes, offset: int) -> Record:
    return Record("t", b"ten_a", value, {"by": "a stranger"}, partition=1, offset=offset)


async def test_an_unsigned_record_never_reaches_the_handler_and_is_a_dead_letter(deliveries: Deliveries) -> None:
    done = await deliveries.delivery.deliver([signed(b"a", 1), unsigned(b"forged", 2), signed(b"b", 3)])

    assert done == (3, None)
    assert deliveries.handled == [b"a", b"b"]
    (letter,) = deliveries.dead.letters
    assert (letter.topic, letter.value) == ("t.dlq", b"forged")
    assert letter.headers == {
        "by": "a stranger",
        "argosy-error": "the event is not signed",
        "argosy-partition": "1",
        "argosy-offset": "2",
    }
    assert b'argosy_kafka_records_total{outcome="refused",topic="t"}' in exposition()


async def test_records_of_several_partitions_are_verified_too() -> None:
    deliveries = Deliveries(many=True)

    assert await deliveries.delivery.deliver_together([signed(b"a", 1), unsigned(b"forged", 2)])

    assert deliveries.handled == [b"a"]
    assert [letter.value for letter in deliveries.dead.letters] == [b"forged"]


async def test_a_flood_of_forged_records_does_not_stop_the_consumer(deliveries: Deliveries) -> None:
    flood = [unsigned(b"forged", offset) for offset in range(2 * MAX_CONSECUTIVE_DEAD_LETTERS)]

    assert await deliveries.delivery.deliver([*flood, signed(b"a", 999)]) == (len(flood) + 1, None)
    assert deliveries.handled == [b"a"]


async def test_a_failure_after_a_forged_record_leaves_the_failed_record_next(deliveries: Deliveries) -> None:
    records = [unsigned(b"forged", 1), signed(b"later", 2), unsigned(b"forged", 3)]

    done, error = await deliveries.delivery.deliver(records)

    assert (done, type(error)) == (1, ConnectionError)
    assert len(deliveries.dead.letters) == 1


async def test_a_forged_record_of_the_largest_size_does_not_block_its_partition(deliveries: Deliveries) -> None:
    deliveries.dead.max_bytes = 10

    assert await deliveries.delivery.deliver([unsigned(b"x" * 100, 1), signed(b"a", 2)]) == (2, None)

    (letter,) = deliveries.dead.letters
    assert (letter.value, letter.headers["argosy-offset"]) == (b"", "1")
