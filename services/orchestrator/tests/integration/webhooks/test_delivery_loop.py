"""Deliveries from the event to the endpoint: the loop on a real Postgres, with scripted receivers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from orchestrator.webhooks.deliver import Deliver
from orchestrator.webhooks.delivery_postgres import PostgresDeliveryQueue
from orchestrator.webhooks.model import DeliveryFilter, DeliveryState, EndpointChange
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.schedule import DeliveryLoop
from orchestrator.webhooks.sender import HttpSender, SystemResolver
from orchestrator.webhooks.slots import Slots
from orchestrator.webhooks.targets import TargetPolicy

from services.orchestrator.tests.webhook_receiver import Reply, Request, always, receiving

LOOPBACK = TargetPolicy(allow_http=True, ports=frozenset(), networks=(ip_network("127.0.0.1/32"),))
NO_TARGETS = TargetPolicy(allow_http=True, ports=frozenset())
ALL = DeliveryFilter()


@asynccontextmanager
async def delivering(
    queue: PostgresDeliveryQueue,
    *,
    policy: TargetPolicy = LOOPBACK,
    timeout: timedelta = timedelta(seconds=60),
    schedule: Sequence[timedelta] = (timedelta(milliseconds=50),) * 2,
    slots: Slots | None = None,
) -> AsyncIterator[DeliveryLoop]:
    stop = asyncio.Event()
    async with SystemResolver() as resolver, HttpSender(resolver, policy, timeout) as sender:
        loop = DeliveryLoop(
            queue,
            Deliver(queue=queue, sender=sender, schedule=schedule),
            slots or Slots(64, 8),
            lease=timedelta(minutes=5),
            poll_interval=timedelta(milliseconds=50),
        )
        running = asyncio.create_task(loop.run(stop))
        try:
            yield loop
        finally:
            stop.set()
            await running


async def wait_for_state(
    deliveries: PostgresDeliveries, state: DeliveryState, count: int, tenant: str = "ten_1"
) -> Any:
    while True:
        found, _ = await deliveries.list(tenant, DeliveryFilter(state=state), limit=100, after="")
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)


async def test_a_slow_endpoint_delays_no_other(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    async with receiving(always(Reply(hang=True))) as slow, receiving(always(Reply())) as healthy:
        await create("ten_1", "job.failed", url=f"http://127.0.0.1:{slow.port}/")
        await create("ten_1", "job.succeeded", url=f"http://127.0.0.1:{healthy.port}/")
        await publish(100, event_type="job.failed")
        async with delivering(queue, timeout=timedelta(seconds=5), schedule=(timedelta(hours=1),)):
            while slow.connections < 8:
                await asyncio.sleep(0.02)
            await publish(50)
            await wait_for_state(deliveries, DeliveryState.SUCCEEDED, 50)

    assert len(healthy.requests) == 50


async def test_a_delivery_that_fails_does_not_hold_up_newer_ones(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    def script(request: Request) -> Reply:
        return Reply(500 if b'"number":0' in request.body else 200)

    async with receiving(script) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        events = await publish(10)
        async with delivering(queue, schedule=(timedelta(hours=1),)):
            done = await wait_for_state(deliveries, DeliveryState.SUCCEEDED, 9)

    assert events[0].id not in {delivery.event_id for delivery in done}


async def test_ids_and_bodies_are_the_same_over_retries_and_timestamps_are_not_those_of_the_event(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    async with receiving(always(Reply(503))) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        (event,) = await publish(1)
        async with delivering(queue):
            await wait_for_state(deliveries, DeliveryState.EXHAUSTED, 1)

    assert len(receiver.requests) == 3
    assert {request.headers["webhook-id"] for request in receiver.requests} == {event.id}
    assert {request.body for request in receiver.requests} == {event.payload}
    assert all(int(request.headers["webhook-timestamp"]) > 0 for request in receiver.requests)


async def test_retry_after_is_heeded(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    async with receiving(always(Reply(429, headers={"Retry-After": "3600"}))) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        await publish(1)
        async with delivering(queue):
            while not (found := (await deliveries.list("ten_1", ALL, limit=1, after=""))[0])[0].attempts:
                await asyncio.sleep(0.02)

    next_attempt_at = found[0].next_attempt_at
    assert next_attempt_at is not None
    assert next_attempt_at - found[0].created_at > timedelta(minutes=59)


async def test_a_url_that_is_no_longer_allowed_is_refused_at_delivery(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    async with receiving(always(Reply())) as sentinel:
        await create(url=f"http://127.0.0.1:{sentinel.port}/")
        await publish(1)
        async with delivering(queue, policy=NO_TARGETS):
            (delivery,) = await wait_for_state(deliveries, DeliveryState.EXHAUSTED, 1)

    assert delivery.last_error == "webhook_url_not_allowed"
    assert sentinel.connections == 0


async def test_a_changed_url_and_filter_hold_for_what_waits(
    queue: PostgresDeliveryQueue,
    deliveries: PostgresDeliveries,
    endpoints: PostgresWebhooks,
    create: Any,
    publish: Any,
) -> None:
    async with receiving(always(Reply())) as old, receiving(always(Reply())) as new:
        endpoint = await create(url=f"http://127.0.0.1:{old.port}/")
        await publish(3)
        await endpoints.update("ten_1", endpoint.id, EndpointChange(url=f"http://127.0.0.1:{new.port}/"))
        async with delivering(queue):
            await wait_for_state(deliveries, DeliveryState.SUCCEEDED, 3)

    assert (old.connections, len(new.requests)) == (0, 3)


async def test_a_stop_waits_for_the_attempts_in_progress(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    release = asyncio.Event()

    async def script(_: Request) -> Reply:
        await release.wait()
        return Reply()

    async with receiving(script) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        await publish(1)
        async with delivering(queue):
            while not receiver.requests:
                await asyncio.sleep(0.02)
            asyncio.get_running_loop().call_later(0.2, release.set)

    ((delivery,), _) = await deliveries.list("ten_1", ALL, limit=1, after="")
    assert delivery.state is DeliveryState.SUCCEEDED


async def test_a_backlog_for_an_endpoint_that_recovers_reaches_it_a_few_at_a_time(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    concurrent = most = 0

    async def script(_: Request) -> Reply:
        nonlocal concurrent, most
        concurrent += 1
        most = max(most, concurrent)
        await asyncio.sleep(0.01)
        concurrent -= 1
        return Reply()

    async with receiving(script) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        await publish(90)
        async with delivering(queue, slots=Slots(64, 4)):
            await wait_for_state(deliveries, DeliveryState.SUCCEEDED, 90)

    assert most <= 4
    assert len(receiver.requests) == 90


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_success(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any, status: int
) -> None:
    async with receiving(always(Reply(status, b""))) as receiver:
        await create(url=f"http://127.0.0.1:{receiver.port}/")
        await publish(1)
        async with delivering(queue):
            (delivery,) = await wait_for_state(deliveries, DeliveryState.SUCCEEDED, 1)

    assert delivery.last_status == status
