"""Dead letters on a real Kafka go back to their topic: once, and never in circles."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence

import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import Publisher, Record, replay_dead_letters
from chassis.kafka.record import SigningKeys
from chassis.kafka.replay import Letter, Replay, ReplayOptions, ReplayResult
from chassis.lifecycle import Command
from chassis.settings import KafkaSection, ServiceSettings
from chassis.testing import free_port
from chassis.testing.kafka import SIGNING_KEYS, a_kafka_section

from libs.chassis.tests.topics import kafka_bootstrap, read_records, scratch_topic

RETIRED = "retired:a-key-of-events-that-was-rotated-out-too-early"


@pytest.fixture
async def topic() -> AsyncIterator[str]:
    async with scratch_topic(partitions=3) as topic:
        yield topic


@pytest.fixture
def section() -> KafkaSection:
    return a_kafka_section(kafka_bootstrap(), new_id("group-"))


def with_retired_key(section: KafkaSection) -> KafkaSection:
    return a_kafka_section(section.bootstrap, section.group, f"{SIGNING_KEYS},{RETIRED}")


async def dead_letter(section: KafkaSection, topic: str, *letters: tuple[bytes, str | None]) -> None:
    """Publish dead letters: a value, and the signing keys of its record or None for an unsigned one."""
    async with Publisher(section, sign=False) as publisher:
        for value, signing_keys in letters:
            record = Record(topic, b"ten_a", value, {"traceparent": "00-1-2-01"})
            if signing_keys is not None:
                record = SigningKeys(a_kafka_section("kafka:9092", signing_keys=signing_keys).signing_keys).sign(record)
            headers = {**record.headers, "argosy-error": "no message", "argosy-partition": "0", "argosy-offset": "0"}
            (failure,) = await publisher.publish_all([Record(f"{topic}.dlq", record.key, value, headers)])
            assert failure is None


async def replay(section: KafkaSection, topic: str, **options: object) -> ReplayResult:
    return await Replay(section, topic, ReplayOptions(**options), lambda _: None).run()  # type: ignore[arg-type]


async def test_letters_are_replayed_once(section: KafkaSection, topic: str) -> None:
    await dead_letter(section, topic, (b"one", SIGNING_KEYS), (b"forged", None), (b"two", SIGNING_KEYS))

    first = await replay(section, topic)
    second = await replay(section, topic)
    await dead_letter(section, topic, (b"three", SIGNING_KEYS))
    third = await replay(section, topic)

    assert (dict(first.replayed), dict(first.left)) == ({"no message": 2}, {"the event is not signed": 1})
    assert (second.replayed.total(), second.left.total()) == (0, 0)
    assert (third.replayed.total(), third.left.total()) == (1, 0)
    records = await read_records(topic, 3)
    assert [record.value for record in records] == [b"one", b"two", b"three"]
    assert {record.key for record in records} == {b"ten_a"}
    assert [record.headers["argosy-replays"] for record in records] == ["1", "1", "1"]
    assert all(SigningKeys(section.signing_keys).problem(record) is None for record in records)


async def test_letters_written_during_a_run_wait_for_the_next(section: KafkaSection, topic: str) -> None:
    await dead_letter(section, topic, (b"one", SIGNING_KEYS))
    run: list[str] = []

    async def refuse_again(letters: Sequence[Letter]) -> None:
        await dead_letter(section, topic, *((letter.value, SIGNING_KEYS) for letter, _, _ in letters))

    class Circle(Replay):
        async def _replay(self, publisher: Publisher, records: Sequence[Record]) -> int:
            done = await super()._replay(publisher, records)
            await refuse_again([(record, None, "") for record in records])
            run.append("batch")
            return done

    result = await Circle(section, topic, ReplayOptions(), lambda _: None).run()

    assert (result.replayed.total(), run) == (1, ["batch"])


async def test_a_limit_leaves_the_others_for_the_next_run(section: KafkaSection, topic: str) -> None:
    await dead_letter(section, topic, *((b"%d" % number, SIGNING_KEYS) for number in range(5)))

    counts = [(await replay(section, topic, limit=2)).replayed.total() for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    assert [record.value for record in await read_records(topic, 5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_dry_run_publishes_and_keeps_nothing(section: KafkaSection, topic: str) -> None:
    await dead_letter(section, topic, (b"one", SIGNING_KEYS))

    tried = await replay(section, topic, dry_run=True)
    done = await replay(section, topic)

    assert tried == done
    assert [record.headers["argosy-replays"] for record in await read_records(topic, 1)] == ["1"]


async def test_letters_of_a_rotation_are_replayed_when_the_key_is_back(section: KafkaSection, topic: str) -> None:
    await dead_letter(section, topic, (b"old", RETIRED))

    left = await replay(section, topic)
    passed = await replay(with_retired_key(section), topic)
    replayed = await replay(with_retired_key(section), topic, from_beginning=True)

    assert dict(left.left) == {"the event is signed with an unknown key": 1}
    assert passed.replayed.total() == 0
    assert replayed.replayed.total() == 1


async def test_signing_anew_takes_the_letters_of_one_key_that_earlier_runs_left(
    section: KafkaSection, topic: str
) -> None:
    await dead_letter(section, topic, (b"old", RETIRED), (b"forged", None), (b"good", SIGNING_KEYS))
    await replay(section, topic)

    anew = await replay(section, topic, sign_anew="retired")
    again = await replay(section, topic, sign_anew="retired")

    assert (anew.replayed.total(), anew.left.total()) == (1, 2)
    assert (again.replayed.total(), again.left.total()) == (0, 0)
    records = await read_records(topic, 2)
    assert [record.value for record in records] == [b"good", b"old"]
    assert records[1].headers["argosy-key-id"] == "tests-1"
    assert SigningKeys(section.signing_keys).problem(records[1]) is None


async def test_a_topic_that_does_not_exist_is_said(section: KafkaSection) -> None:
    with pytest.raises(Unavailable, match=r"does not know the topic argosy\.nothing\.dlq"):
        await replay(section, "argosy.nothing")


async def test_no_answer_is_said() -> None:
    with pytest.raises(Unavailable, match="kafka does not answer"):
        await replay(a_kafka_section(f"127.0.0.1:{free_port()}"), "argosy.nothing")


async def test_the_command_says_what_it_does(
    section: KafkaSection, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await dead_letter(section, topic, (b"one", SIGNING_KEYS), (b"forged", None))
    command: Command[ServiceSettings] = replay_dead_letters(lambda _: section, topic)
    parser = argparse.ArgumentParser()
    command.arguments(parser)

    for arguments in (["--dry-run"], [], ["--limit", "1"]):
        assert not await command.run(None, parser.parse_args(arguments))  # type: ignore[arg-type]

    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "replay  partition 0 offset 0  key ten_a  replayed 0 times  no message",
        "leave  partition 0 offset 1  key ten_a  replayed 0 times  the event is not signed",
        "would replay 1",
        "  1  no message",
        "would leave 1",
        "  1  the event is not signed",
        "replayed 1",
        "  1  no message",
        "left 1",
        "  1  the event is not signed",
        "replayed 0",
        "left 0",
    ]
    assert "2 dead letters read" in printed.err
