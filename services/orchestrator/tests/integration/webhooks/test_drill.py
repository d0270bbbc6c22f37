"""The drill of webhooks, in one process: endpoints that misbehave in every way, two loops of which one is killed.

`tests/chaos/test_webhooks.py` is its long form, with processes. It prints a table: `pytest -rP` shows it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.consumer import WebhookEventConsumer
from orchestrator.webhooks.deliver import Deliver
from orchestrator.webhooks.delivery_postgres import PostgresDeliveryQueue
from orchestrator.webhooks.model import EndpointChange
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.schedule import DeliveryLoop
from orchestrator.webhooks.sender import HttpSender, SystemResolver
from orchestrator.webhooks.sign import new_secret
from orchestrator.webhooks.slots import Slots

from services.orchestrator.tests.integration.webhooks.test_delivery_loop import LOOPBACK
from services.orchestrator.tests.webhook_drill import (
    SCHEDULE_SECONDS,
    TIMEOUT_SECONDS,
    Subscriber,
    check,
    reply_of,
    report,
    scaled,
    to_record,
)
from services.orchestrator.tests.webhook_receiver import Reply, always, receiving

LEASE = timedelta(seconds=6)


@pytest.mark.timeout(400)
async def test_every_event_is_delivered_or_exhausted_by_the_schedule(
    database: Database, owner: Any, cipher: AesSecretCipher
) -> None:
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed {seed}\n")
    chance, plan = random.Random(seed), scaled(0.15)
    endpoints, deliveries = PostgresWebhooks(database, cipher), PostgresDeliveries(database)
    queue = PostgresDeliveryQueue(database, cipher, disable_after=timedelta(days=5), min_failures=12)
    subscribers: dict[str, Subscriber] = {}
    ids: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        sentinel = await stack.enter_async_context(receiving(always(Reply())))
        for name, (event_type, _) in plan.items():
            subscriber = Subscriber(name, new_secret(), reply_of(name, chance, sentinel))
            receiver = await stack.enter_async_context(receiving(subscriber.script))
            change = EndpointChange(f"http://127.0.0.1:{receiver.port}/{name}", name, (event_type,))
            made = await endpoints.create("ten_1", change, subscriber.secret, max_endpoints=20)
            subscribers[name], ids[name] = subscriber, made.id
        resolver = await stack.enter_async_context(SystemResolver())
        sender = await stack.enter_async_context(HttpSender(resolver, LOOPBACK, timedelta(seconds=TIMEOUT_SECONDS)))

        def replica() -> asyncio.Task[None]:
            loop = DeliveryLoop(
                queue,
                Deliver(queue=queue, sender=sender, schedule=[timedelta(seconds=step) for step in SCHEDULE_SECONDS]),
                Slots(64, 8),
                lease=LEASE,
                poll_interval=timedelta(milliseconds=100),
            )
            return asyncio.create_task(loop.run(stop))

        stop = asyncio.Event()
        first, second = replica(), replica()
        records = [to_record("ten_1", event_type) for event_type, count in plan.values() for _ in range(count)]
        chance.shuffle(records)
        consume = WebhookEventConsumer(deliveries, lambda: None)
        for start in range(0, len(records), 100):
            await consume(records[start : start + 100])
            await consume(records[start : start + 100])  # the broker may deliver a batch twice
        # Kill a replica without a word; its leases end, and another takes its place.
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        third = replica()
        rotating = subscribers["rotating"]
        renewed = new_secret()
        await endpoints.rotate("ten_1", ids["rotating"], renewed, timedelta(hours=1))
        await wait_until(lambda: len(rotating.acknowledged) > plan["rotating"][1] // 2)
        rotating.secret = renewed  # deployed later than it was rotated
        while await owner.fetchval("SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'"):
            await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(second, third)

    rows = await owner.fetch(
        "SELECT endpoint_id, state, count(*) AS count, sum(attempts) AS attempts, min(attempts) AS fewest"
        " FROM webhook_deliveries WHERE event_type <> 'webhook_endpoint.disabled' GROUP BY 1, 2"
    )
    report(rows, ids, subscribers, plan)
    check(rows, ids, subscribers, plan, await endpoints.get("ten_1", ids["ended"]))
    assert sentinel.connections == 0


async def wait_until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.05)
