"""Moves dead letters back to their topic, once the reason for which they were refused is mended.

Consumers verify the records again. A run ends at the letters that were there when it began, so a record that becomes a
dead letter again is not replayed in circles. What a run has passed is kept as an offset of a consumer group: the next
run goes on from there. After a crash in between some records are replayed twice; handlers are idempotent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis.errors import Unavailable
from chassis.kafka.broker_security import client_options
from chassis.kafka.publisher import Publisher, describe
from chassis.kafka.record import (
    DEAD_LETTERS,
    ERROR_HEADER,
    KEY_ID_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REPLAYS_HEADER,
    UNKNOWN_KEY,
    Record,
    SigningKeys,
)
from chassis.settings import KafkaSection

BATCH_RECORDS: Final = 500
ANSWER_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 3.0
LETTER_HEADERS: Final = frozenset({ERROR_HEADER, PARTITION_HEADER, OFFSET_HEADER})

Letter = tuple[Record, Record | None, str]
"""A dead letter, the record to publish or None, and why."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What one run does. `limit` bounds what it replays, not what it passes over."""

    limit: int | None = None
    dry_run: bool = False
    from_beginning: bool = False
    """Also what earlier runs have replayed or passed over."""
    sign_anew: str | None = None
    """The id of a retired key: replay only what was refused because of it, signed with the first key of today."""


@dataclass(slots=True)
class ReplayResult:
    """What a run did, by the reason of the letters."""

    replayed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)


def restore(letter: Record, topic: str) -> Record:
    """Return the record that a letter was, with one replay more."""
    headers = {name: value for name, value in letter.headers.items() if name not in LETTER_HEADERS}
    headers[REPLAYS_HEADER] = str(replays(letter) + 1)
    return Record(topic, letter.key, letter.value, headers)


def replays(letter: Record) -> int:
    """Return how often a letter was replayed before."""
    count = letter.headers.get(REPLAYS_HEADER, "")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def judge(letter: Record, topic: str, keys: SigningKeys, sign_anew: str | None) -> Letter:
    """Decide whether a letter is replayed: if consumers will accept it, or if it is to be signed anew."""
    record = restore(letter, topic)
    problem = keys.problem(record)
    if sign_anew is None:
        if problem is None:
            return letter, record, letter.headers.get(ERROR_HEADER, "no reason is given")
        return letter, None, problem
    if problem is None:
        return letter, None, "its signature is valid: replay it without signing it anew"
    if problem != UNKNOWN_KEY:
        return letter, None, problem
    if record.headers[KEY_ID_HEADER] != sign_anew:
        return letter, None, "it is signed with another unknown key"
    return letter, record, problem


class Replay:
    """One run for one topic."""

    def __init__(
        self, section: KafkaSection, topic: str, options: ReplayOptions, on_letters: Callable[[Sequence[Letter]], None]
    ) -> None:
        """`on_letters` gets each batch after it was replayed."""
        self._section = section
        self._topic = topic
        self._options = options
        self._on_letters = on_letters
        self._keys = SigningKeys(section.signing_keys)
        self._result = ReplayResult()

    @property
    def group(self) -> str:
        """The consumer group of the offsets. Runs that sign anew have their own, because others pass those letters."""
        anew = self._options.sign_anew
        return f"{self._section.group}.replay" + (f".{anew}" if anew else "")

    async def run(self) -> ReplayResult:
        """Replay. Raises `Unavailable` when Kafka does not answer; the next run goes on where this one ended."""
        async with (
            self._consumer() as consumer,
            Publisher(self._section, sign=self._options.sign_anew is not None) as publisher,
        ):
            async for partition, records in _read(consumer, await self._seek(consumer)):
                done = await self._replay(publisher, records)
                if done and not self._options.dry_run:
                    await consumer.commit({partition: records[done - 1].offset + 1})
                if done < len(records):
                    break
        return self._result

    async def _seek(self, consumer: Any) -> dict[TopicPartition, int]:
        """Go to where the last run ended; return the ends of the partitions."""
        topic = self._topic + DEAD_LETTERS
        # aiokafka (0.14) has no public way to read a topic's partitions without subscribing, which joins the group.
        cluster = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(topic, number) for number in cluster.partitions_for_topic(topic) or ()]
        if not partitions:
            raise Unavailable(f"kafka does not know the topic {topic}")
        consumer.assign(partitions)
        if self._options.from_beginning:
            await consumer.seek_to_beginning(*partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends

    async def _replay(self, publisher: Publisher, records: Sequence[Record]) -> int:
        """Return how many of the records, from the first, are done: fewer than all when the limit is reached."""
        letters: list[Letter] = []
        room = self._room()
        for letter in records:
            judged = judge(letter, self._topic, self._keys, self._options.sign_anew)
            if judged[1] is not None:
                if room == 0:
                    break
                room -= 1
            letters.append(judged)
        wanted = [record for _, record, _ in letters if record is not None]
        if wanted and not self._options.dry_run:
            failure = next(filter(None, await publisher.publish_all(wanted)), None)
            if failure is not None:
                raise failure
        for _, record, reason in letters:
            (self._result.left if record is None else self._result.replayed)[reason] += 1
        self._on_letters(letters)
        return len(letters)

    def _room(self) -> int:
        limit = self._options.limit
        return -1 if limit is None else limit - self._result.replayed.total()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        # It is assigned its partitions, so it does not join the group.
        consumer = AIOKafkaConsumer(
            **client_options(self._section),
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await consumer.start()
            yield consumer
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"kafka does not answer: {describe(error)}") from error
        finally:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await consumer.stop()
            except (KafkaError, OSError, TimeoutError):
                await consumer._client.close()


async def _read(consumer: Any, ends: dict[TopicPartition, int]) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
    """Yield the records before `ends`. Raises `TimeoutError` when the brokers send none for too long."""
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    while [partition for partition, end in ends.items() if await consumer.position(partition) < end]:
        found = await consumer.getmany(timeout_ms=1000, max_records=BATCH_RECORDS)
        if found:
            answered_at = loop.time()
        elif loop.time() - answered_at > ANSWER_SECONDS:
            raise TimeoutError
        for partition, records in found.items():
            before_end = [Record.from_kafka(record) for record in records if record.offset < ends[partition]]
            if before_end:
                yield partition, before_end
