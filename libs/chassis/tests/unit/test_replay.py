"""Which dead letters are replayed, and how."""

from __future__ import annotations

import pytest
from chassis.kafka import Record
from chassis.kafka.record import OFFSET_HEADER, PARTITION_HEADER, UNKNOWN_KEY, SigningKeys
from chassis.kafka.replay import judge, replays, restore
from chassis.kafka.replay_command import _printable
from pydantic import SecretStr

TOPIC = "argosy.toys.toy-broken.v1"
TODAY, RETIRED, STRANGE = (f"{name}:a-key-of-events-for-tests-named-{name}" for name in ("today", "retired", "strange"))


def keys(*pairs: str) -> SigningKeys:
    return SigningKeys([SecretStr(pair) for pair in pairs])


def a_letter(signed_by: str | None = TODAY, reason: str = "no message", **headers: str) -> Record:
    record = Record(TOPIC, b"ten_a", b"value", {"traceparent": "00-1-2-01"})
    if signed_by is not None:
        record = keys(signed_by).sign(record)
    why = {"argosy-error": reason, "argosy-partition": "2", "argosy-offset": "7"}
    return Record(f"{TOPIC}.dlq", record.key, record.value, {**record.headers, **why, **headers}, 0, 3)


def test_a_letter_becomes_the_record_that_it_was() -> None:
    record = restore(a_letter(), TOPIC)

    assert (record.topic, record.key, record.value) == (TOPIC, b"ten_a", b"value")
    assert record.headers["traceparent"] == "00-1-2-01"
    assert {"argosy-error", PARTITION_HEADER, OFFSET_HEADER}.isdisjoint(record.headers)
    assert keys(TODAY).problem(record) is None


def test_replays_are_counted() -> None:
    once = restore(a_letter(), TOPIC)
    twice = restore(once, TOPIC)

    assert [replays(record) for record in (a_letter(), once, twice)] == [0, 1, 2]


@pytest.mark.parametrize("count", ["", "-1", "x", "1_0", "²", "9" * 5000])
def test_a_count_that_a_stranger_wrote_is_none(count: str) -> None:
    assert replays(a_letter(**{"argosy-replays": count})) == 0


@pytest.mark.parametrize(
    ("signed_by", "known", "reason"),
    [
        (None, (TODAY,), "the event is not signed"),
        (STRANGE, (TODAY,), UNKNOWN_KEY),
        ("today:another-secret-under-the-same-id-of-a-key", (TODAY,), "the signature of the event is wrong"),
    ],
)
def test_a_letter_that_consumers_would_refuse_again_is_left(
    signed_by: str | None, known: tuple[str, ...], reason: str
) -> None:
    _, record, why = judge(a_letter(signed_by), TOPIC, keys(*known), None)

    assert (record, why) == (None, reason)


def test_a_letter_is_replayed_when_its_key_is_known_again() -> None:
    _, record, why = judge(a_letter(RETIRED, UNKNOWN_KEY), TOPIC, keys(TODAY, RETIRED), None)

    assert record is not None
    assert record.headers["argosy-key-id"] == "retired"
    assert why == UNKNOWN_KEY


def test_only_letters_of_the_retired_key_are_signed_anew() -> None:
    letters = [a_letter(by) for by in (RETIRED, STRANGE, TODAY, None)]
    verdicts = [judge(letter, TOPIC, keys(TODAY), "retired")[1:] for letter in letters]

    assert [record is not None for record, _ in verdicts] == [True, False, False, False]
    assert [why for _, why in verdicts] == [
        UNKNOWN_KEY,
        "it is signed with another unknown key",
        "its signature is valid: replay it without signing it anew",
        "the event is not signed",
    ]


def test_a_letter_moved_from_another_topic_is_left() -> None:
    assert judge(a_letter(), "argosy.money.spent.v1", keys(TODAY), None)[1] is None


def test_terminals_get_no_control_characters() -> None:
    assert _printable("\x1b[31mred\r\nline" + "x" * 1000) == "?[31mred??line" + "x" * 186
