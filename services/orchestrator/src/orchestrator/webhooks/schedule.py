"""Background work of webhooks: attempts of due deliveries, and the end of old ones."""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import zip_longest
from typing import Protocol

from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from orchestrator.metrics import (
    WEBHOOK_ATTEMPT_SECONDS,
    WEBHOOK_ATTEMPTS,
    WEBHOOK_ENDPOINTS_DISABLED,
    WEBHOOKS_IN_FLIGHT,
)
from orchestrator.webhooks.deliver import TIMED_OUT, Deliver, DeliveryResult
from orchestrator.webhooks.model import DisabledReason, DueDelivery
from orchestrator.webhooks.ports import DeliveryQueue
from orchestrator.webhooks.slots import Slots

EXPIRE_BATCH_SIZE = 500
# Between two looks for due deliveries, however many attempts end meanwhile.
MIN_INTERVAL_SECONDS = 0.02

# More are looked at than there are slots for, and chosen at random: replicas that look at once claim different ones.
SPREAD = 4

# An alert does not see the increase from no sample to a first one, so that rare outcomes are 0 from the start.
_ATTEMPTS = {outcome: WEBHOOK_ATTEMPTS.labels(outcome) for outcome in ("succeeded", "failed", "exhausted", "cancelled")}
_DISABLED = {
    reason: WEBHOOK_ENDPOINTS_DISABLED.labels(reason.value)
    for reason in (DisabledReason.ANSWERED_410, DisabledReason.FAILING)
}

log = logger("orchestrator.webhooks")


class DeliveryLoop:
    """Starts an attempt of each due delivery for which there is a slot; several replicas may run one.

    The lease outlasts an attempt, so a delivery whose process dies is attempted again when it ends.
    """

    def __init__(
        self, queue: DeliveryQueue, deliver: Deliver, slots: Slots, *, lease: timedelta, poll_interval: timedelta
    ) -> None:
        self._queue = queue
        self._deliver = deliver
        self._slots = slots
        self._lease = lease
        self._poll_seconds = poll_interval.total_seconds()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: set[str] = set()
        self._failure_log = RateLimitedLog(log)

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then wait for the attempts in progress, which are bounded in time."""
        backoff = Backoff(max_seconds=5.0)
        waking = asyncio.create_task(self._wake_at(stop))
        try:
            while not stop.is_set():
                self._woken.clear()
                try:
                    await self._start_due()
                    backoff.reset()
                except Exception as error:  # noqa: BLE001 - what a store answers must not end the service
                    self._log_failure(error)
                    await wait_or_stop(stop, backoff.next())
                    continue
                await wait_or_stop(stop, MIN_INTERVAL_SECONDS)
                await wait_or_stop(self._woken, self._poll_seconds)
            await asyncio.gather(*self._tasks)
        finally:
            waking.cancel()
            for task in self._tasks:
                task.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._woken.set()

    async def _start_due(self) -> None:
        if self._slots.free < 1:
            return
        slots = self._slots
        rooms = {endpoint: room * SPREAD for endpoint, room in slots.rooms().items()}
        due = await self._queue.find_due(slots.free * SPREAD, slots.per_endpoint * SPREAD, rooms)
        for delivery in in_turns(due, random.shuffle):
            if delivery.delivery_id not in self._starting and self._slots.acquire(delivery.endpoint_id):
                self._starting.add(delivery.delivery_id)
                task = asyncio.create_task(self._attempt(delivery))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        WEBHOOKS_IN_FLIGHT.set(len(self._tasks))

    async def _attempt(self, due: DueDelivery) -> None:
        result: DeliveryResult | None = None
        try:
            claimed = await self._queue.claim(due, self._lease)
            if claimed is not None:
                result = await self._deliver(claimed)
        except Exception as error:  # noqa: BLE001 - its lease ends, then it is attempted again
            self._log_failure(error)
        finally:
            answer = result.answer if result else None
            self._slots.release(due.endpoint_id, timed_out=None if answer is None else answer.error == TIMED_OUT)
            self._starting.discard(due.delivery_id)
            # Its slot is free for the next that is due.
            self._woken.set()
        if result is not None:
            _observe(result, due)

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, ArgosyError):
            self._failure_log.warning("webhooks_failed", key=error.reason, reason=error.reason, message=error.message)
        else:
            self._failure_log.warning("webhooks_failed", key=type(error).__name__, exc_info=error)


def in_turns(due: Sequence[DueDelivery], shuffle: Callable[[list[DueDelivery]], None]) -> list[DueDelivery]:
    """Put the deliveries of each endpoint in another order, and let endpoints take turns."""
    by_endpoint: dict[str, list[DueDelivery]] = {}
    for delivery in due:
        by_endpoint.setdefault(delivery.endpoint_id, []).append(delivery)
    for of_endpoint in by_endpoint.values():
        shuffle(of_endpoint)
    return [delivery for turn in zip_longest(*by_endpoint.values()) for delivery in turn if delivery is not None]


class Expirable(Protocol):
    """Where finished deliveries are kept."""

    async def expire(self, older_than: timedelta, limit: int) -> int:
        """Delete at most `limit` deliveries that finished that long ago; return how many."""


async def expire_deliveries(queue: Expirable, retention: timedelta) -> bool:
    """Delete a batch of old deliveries; True when there may be more."""
    return await queue.expire(retention, EXPIRE_BATCH_SIZE) == EXPIRE_BATCH_SIZE


def _observe(result: DeliveryResult, due: DueDelivery) -> None:
    _ATTEMPTS[result.outcome].inc()
    if result.answer is not None:
        WEBHOOK_ATTEMPT_SECONDS.observe(result.seconds)
    if result.disabled is not None:
        _DISABLED[result.disabled.reason].inc()
        log.warning(
            "webhook_endpoint_disabled",
            tenant_id=due.tenant_id,
            endpoint_id=due.endpoint_id,
            reason=result.disabled.reason.value,
        )
