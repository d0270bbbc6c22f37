"""Consumption of records that start long work: a record is done when its work is claimed, not when the work has ended.

Offsets are committed per partition up to the lowest record that is not claimed. Polling goes on while all slots are
taken, so no duration of the work makes the broker take partitions away.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from itertools import count
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener

from chassis.aio import wait_or_stop
from chassis.errors import ArgosyError
from chassis.kafka.delivery import RECORDS, publish_letter, start_series
from chassis.kafka.membership import GroupMember
from chassis.kafka.offsets import PartitionOffsets, Taken
from chassis.kafka.rebalance import RebalanceListener
from chassis.kafka.record import Record, SigningKeys, Undecodable
from chassis.settings import KafkaSection
from chassis.telemetry import extract, logger, span

POLL_SECONDS: Final = 0.5
COMMIT_INTERVAL_SECONDS: Final = 0.02
"""Commits of records that are claimed within this time are one request."""
CLAIM_GRACE_SECONDS: Final = 5.0
"""How long a rebalance waits for claims in flight. The records of slower ones come to another consumer as well."""
LEAVE_GRACE_SECONDS: Final = 2.0
"""The same before the consumer leaves its group."""
MIN_BUFFERED: Final = 100

Work = Callable[[], Awaitable[None]]
Claim = Callable[[Record], Awaitable[Work | None]]
"""Claims the work of a record durably, and returns it; None when there is nothing to do.

`Undecodable` moves the record to the dead letters. After any other error the record is claimed again, with backoff.
"""

Offered = Callable[[], Awaitable[Work | None]]
"""Claims work that no record brought. It repeats what fails, and logs it."""

log = logger("chassis.kafka")


class ClaimingConsumer(GroupMember):
    """A component that claims records and runs their work, in at most `slots` tasks at once.

    `topics` has for each topic a handicap: its records are taken as if they had come so much later. So the topic
    without one goes first, and none waits for ever.

    Records wait in memory for a free slot; when there are many, fetching pauses. A rebalance drops the records that
    wait, since they come again to whoever is assigned their partition; the work that runs goes on.
    """

    def __init__(
        self,
        section: KafkaSection,
        topics: Mapping[str, timedelta],
        claim: Claim,
        *,
        slots: int,
        member_name: str = "",
    ) -> None:
        super().__init__(f"consumer group {section.group}", section, list(topics), member_name=member_name)
        self._handicaps = {topic: handicap.total_seconds() for topic, handicap in topics.items()}
        self._claim = claim
        self._problem = SigningKeys(section.signing_keys).problem
        self._slots = slots
        self._max_buffered = max(MIN_BUFFERED, 4 * slots)
        self._running: set[asyncio.Task[None]] = set()
        self._partitions: dict[Any, PartitionOffsets] = {}
        self._waiting: list[tuple[float, int, Taken]] = []
        self._offers: deque[Offered] = deque()
        self._numbers = count()
        self._claiming: dict[Taken, asyncio.Future[None]] = {}
        self._dirty = asyncio.Event()
        self._paused = False
        self._left = False
        for topic in topics:
            start_series(topic)

    def offer(self, offers: Iterable[Offered]) -> None:
        """Replace the work that waits beside the topics. It goes before their records, and needs no connection."""
        self._offers = deque(offers)
        self._take()

    def offer_also(self, offers: Iterable[Offered]) -> None:
        """Add to the work that waits beside the topics, until the next `offer` replaces it; not while it leaves."""
        if not self._left:
            self._offers.extend(offers)
            self._take()

    @property
    def slots_used(self) -> int:
        return len(self._running)

    def stop_taking(self) -> None:
        """Take no more records and begin to leave the group; the work that runs goes on."""
        self._left = True
        self._waiting.clear()
        self._offers.clear()
        self._stop.set()

    async def stop(self) -> None:
        """Leave the group and wait for the work that runs; when cancelled, cancel it."""
        self.stop_taking()
        try:
            await super().stop()
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in self._running:
                task.cancel()

    def _listener(self) -> ConsumerRebalanceListener:
        self._drop_waiting()
        return RebalanceListener(self.prepare_rebalance)

    async def _poll(self, stop: asyncio.Event) -> None:
        consumer = self._consumer
        committer = asyncio.create_task(self._commit_when_dirty(consumer, stop), name="commit offsets")
        try:
            while not stop.is_set():
                self._pause_or_resume(consumer)
                room = max(1, self._max_buffered - len(self._waiting))
                found = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=room)
                # Nothing is awaited between aiokafka's hand-over and here, so the records are of the assignment of now.
                for partition, records in found.items():
                    self._add(partition, [Record.from_kafka(record) for record in records])
                self._take()
                await self._check_connection()
            await self._wait_for_claims(LEAVE_GRACE_SECONDS)
            await self._commit_claimed(consumer)
        finally:
            committer.cancel()
            await asyncio.gather(committer, return_exceptions=True)
            self._drop_waiting()

    def _pause_or_resume(self, consumer: Any) -> None:
        if self._paused and len(self._waiting) <= self._max_buffered // 2:
            consumer.resume(*consumer.assignment())
            self._paused = False
        elif not self._paused and len(self._waiting) >= self._max_buffered:
            consumer.pause(*consumer.assignment())
            self._paused = True

    def _add(self, partition: Any, records: list[Record]) -> None:
        offsets = self._partitions.get(partition)
        if offsets is None or records[0].offset < offsets.next:
            # New, or its log has begun anew.
            offsets = self._partitions[partition] = PartitionOffsets()
        now = asyncio.get_running_loop().time()
        for record in records:
            offsets.add(record.offset)
            at = now + self._handicaps.get(record.topic, 0.0)
            self._put(Taken(record, offsets, at))

    def _put(self, taken: Taken) -> None:
        heapq.heappush(self._waiting, (taken.at, next(self._numbers), taken))

    def _take(self) -> None:
        """Start to claim waiting records while slots are free."""
        while (self._offers or self._waiting) and len(self._running) < self._slots and not self._left:
            if self._offers:
                occupied = self._occupy_offered(self._offers.popleft())
            else:
                _, _, taken = heapq.heappop(self._waiting)
                self._claiming[taken] = asyncio.get_running_loop().create_future()
                occupied = self._occupy(taken)
            task = asyncio.create_task(occupied, name="claimed work")
            self._running.add(task)
            task.add_done_callback(self._free)

    async def _occupy_offered(self, claim: Offered) -> None:
        work = await claim()
        if work is not None:
            await work()

    def _free(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure_log.warning("claimed_work_failed", key=type(error).__name__, exc_info=error)
        self._take()

    async def _occupy(self, taken: Taken) -> None:
        """Claim a record and run its work, in one slot."""
        with extract(taken.record.headers):
            work = None
            try:
                if taken.offsets.assigned and not self._left:
                    work = await self._try_claim(taken)
            finally:
                self._claiming.pop(taken).set_result(None)
            if work is not None:
                await work()

    async def _try_claim(self, taken: Taken) -> Work | None:
        """Claim, or move the record to the dead letters, or put it back for later."""
        record, work = taken.record, None
        try:
            if (problem := self._problem(record)) is not None:
                await self._dead_letter(record, problem, "refused")
            else:
                with span(f"{record.topic} claim", kind="consumer"):
                    work = await self._claim(record)
                RECORDS.labels(record.topic, "handled").inc()
        except Undecodable as undecodable:
            try:
                await self._dead_letter(record, undecodable.message, "dead_lettered")
            except ArgosyError as error:
                self._retry_later(taken, error)
                return None
        except Exception as error:  # noqa: BLE001 - after any error the record is claimed again
            self._retry_later(taken, error)
            return None
        if taken.offsets.settle(record.offset):
            self._dirty.set()
        return work

    async def _dead_letter(self, record: Record, reason: str, outcome: str) -> None:
        """Any number of records: their jobs wait elsewhere, and a bad one must not hold up the others."""
        failure = await publish_letter(self._publisher, record, reason)
        if failure is not None:
            raise failure
        RECORDS.labels(record.topic, outcome).inc()
        self._failure_log.warning(
            "record_dead_lettered" if outcome == "dead_lettered" else "record_refused",
            key=reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
        )

    def _retry_later(self, taken: Taken, error: Exception) -> None:
        RECORDS.labels(taken.record.topic, "failed").inc()
        cause = {"reason": error.reason, "message": error.message} if isinstance(error, ArgosyError) else {}
        self._failure_log.warning(
            "claim_failed",
            key=cause.get("reason", type(error).__name__),
            topic=taken.record.topic,
            exc_info=None if cause else error,
            **cause,
        )
        asyncio.get_running_loop().call_later(taken.backoff.next(), self._put_back, taken)

    def _put_back(self, taken: Taken) -> None:
        # After a rebalance the record comes again.
        if taken.offsets.assigned and not self._left:
            self._put(taken)
            self._take()

    def _drop_waiting(self) -> None:
        for offsets in self._partitions.values():
            offsets.assigned = False
        self._partitions.clear()
        self._waiting.clear()
        self._paused = False  # what is assigned next is not

    async def _commit_when_dirty(self, consumer: Any, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._dirty.wait()
            self._dirty.clear()
            if not await self._commit_claimed(consumer):
                self._dirty.set()
                await wait_or_stop(stop, 1.0)
            await wait_or_stop(stop, COMMIT_INTERVAL_SECONDS)

    async def _commit_claimed(self, consumer: Any) -> bool:
        """Commit each partition up to its lowest record that is not claimed; return whether that worked."""
        pending = {
            partition: (offsets, offsets.claimed_up_to)
            for partition, offsets in self._partitions.items()
            if offsets.claimed_up_to > offsets.committed
        }
        if not pending:
            return True
        if not await self._commit(consumer, {partition: position for partition, (_, position) in pending.items()}):
            return False
        for offsets, position in pending.values():
            offsets.committed = max(offsets.committed, position)
        return True

    async def _wait_for_claims(self, seconds: float) -> None:
        if self._claiming:
            await asyncio.wait(list(self._claiming.values()), timeout=seconds)

    async def prepare_rebalance(self) -> None:
        """Take no record of the partitions that may go, and commit what is claimed."""
        self._waiting.clear()
        await self._wait_for_claims(CLAIM_GRACE_SECONDS)
        if self._consumer is not None:
            await self._commit_claimed(self._consumer)
        self._drop_waiting()
