"""Membership of a consumer group: connecting, reconnecting with backoff, commits, and leaving."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from chassis.aio import ConnectionLog, wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import Unavailable
from chassis.kafka.broker_security import client_options
from chassis.kafka.publisher import Publisher, describe
from chassis.lifecycle import Loop
from chassis.settings import KafkaSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

COMMIT_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 3.0
PING_TIMEOUT_SECONDS: Final = 1.0
CHECK_INTERVAL_SECONDS: Final = 5.0

log = logger("chassis.kafka")


class GroupMember(Loop, ABC):
    """A component that is a member of `section.group` while it runs. A subclass has `_poll`, and may have a listener.

    A member with a name (`static` membership, KIP-345) that is killed and comes back under it within its session gets
    its partitions at once, without a rebalance. No two members may have one name at a time.

    aiokafka leaves the group when it is not polled for five minutes, so `_poll` polls, whatever becomes of the records.
    """

    def __init__(self, name: str, section: KafkaSection, topics: Sequence[str], *, member_name: str = "") -> None:
        super().__init__(name, self._consume)
        self._options = client_options(section)
        self._group = section.group
        self._topics = tuple(topics)
        self._member_name = member_name
        self._publisher = Publisher(section, sign=False)
        self._consumer: Any = None
        self._checked_at = 0.0
        self._failure_log = RateLimitedLog(log)
        self._connection_log = ConnectionLog(
            log, "kafka_consuming_failed", "kafka_consuming_recovered", topic=", ".join(topics)
        )

    async def ping(self) -> None:
        """Raise `Unavailable` unless a broker answers."""
        await self._known_topics()

    @abstractmethod
    async def _poll(self, stop: asyncio.Event) -> None:
        """Poll the connected consumer until `stop` is set."""

    def _listener(self) -> ConsumerRebalanceListener | None:
        """Return what is called before and after a rebalance."""
        return None

    def _fetch_options(self) -> dict[str, int]:
        return {}

    async def _consume(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=0.2, max_seconds=5.0)
        try:
            while not stop.is_set():
                try:
                    await self._connect()
                    self._connection_log.set(connected=True)
                    backoff.reset()
                    self._checked_at = monotonic()
                    await self._poll(stop)
                except (KafkaError, OSError, TimeoutError) as error:
                    self._connection_log.set(connected=False, error=describe(error))
                    await wait_or_stop(stop, backoff.next())
                except Exception as error:  # noqa: BLE001 - what a broker answers must not end the service
                    self._failure_log.warning("kafka_consuming_failed", key=type(error).__name__, exc_info=error)
                    await wait_or_stop(stop, backoff.next())
                finally:
                    await self._disconnect()
        finally:
            await self._publisher.__aexit__()

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=self._group,
            group_instance_id=self._member_name or None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # The partitions of a killed consumer are taken over after this time.
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=10_000,
            metadata_max_age_ms=30_000,
            retry_backoff_ms=250,
            **self._fetch_options(),
        )
        consumer.subscribe(list(self._topics), listener=self._listener())
        self._consumer = consumer
        await consumer.start()

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        if self._member_name and consumer._coordinator is not None:
            # aiokafka (0.14) does not leave for a named member, and the partitions would wait for the session's end.
            consumer._coordinator._group_instance_id = None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            # `stop` waits for the broker. aiokafka (0.14) has no public way to close without waiting, and without this
            # its connections would stay.
            await consumer._client.close()

    async def _check_connection(self) -> None:
        """From time to time, log whether the broker answers: aiokafka polls on without an error when it is down."""
        if monotonic() - self._checked_at <= CHECK_INTERVAL_SECONDS:
            return
        try:
            missing = set(self._topics) - await self._known_topics()
        except Unavailable as error:
            self._connection_log.set(connected=False, error=error.message)
        else:
            self._connection_log.set(connected=True)
            for topic in missing:
                self._failure_log.warning("kafka_topic_missing", key=topic, topic=topic)
        self._checked_at = monotonic()

    async def _known_topics(self) -> set[str]:
        """Raise `Unavailable` unless a broker answers."""
        if self._consumer is None:
            raise Unavailable("kafka does not answer")
        try:
            async with asyncio.timeout(PING_TIMEOUT_SECONDS):
                return set(await self._consumer.topics())
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable("kafka does not answer") from error

    async def _commit(self, consumer: Any, offsets: Mapping[Any, int]) -> bool:
        """Commit; return whether it was acknowledged in time."""
        # Not cancelled after the timeout: the request goes on inside aiokafka, and its result must be retrieved.
        committing = asyncio.ensure_future(consumer.commit(dict(offsets)))
        committing.add_done_callback(self._on_committed)
        await asyncio.wait([committing], timeout=COMMIT_TIMEOUT_SECONDS)
        return committing.done() and not committing.cancelled() and committing.exception() is None

    def _on_committed(self, committing: asyncio.Future[Any]) -> None:
        error = None if committing.cancelled() else committing.exception()
        if isinstance(error, CommitFailedError | IllegalStateError):
            log.info("partition_moved", topics=self._topics)
        elif error is not None:
            # The next commit covers this one; without a next one the records are delivered again.
            log.warning("offset_commit_failed", topics=self._topics, error=type(error).__name__)
