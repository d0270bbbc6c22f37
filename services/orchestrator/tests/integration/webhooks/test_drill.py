"""The drill of webhooks: 2,000 events, endpoints that misbehave in every way, two replicas of which one is killed.

It prints what became of each endpoint's deliveries: `pytest -rP` shows it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import EventMeta
from argosy.orchestration.v1 import jobs_pb2 as jobs
from argosy.orchestration.v1.events_pb2 import BatchFinished, JobFinished
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.grpc import timestamp_to_proto
from chassis.ids import new_id
from chassis.kafka import Record
from chassis.postgres import Database
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.consumer import BATCH_FINISHED, FILE_INDEXED, JOB_FINISHED, WebhookEventConsumer
from orchestrator.webhooks.deliver import Deliver
from orchestrator.webhooks.delivery_postgres import PostgresDeliveryQueue
from orchestrator.webhooks.model import EndpointChange
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.schedule import DeliveryLoop
from orchestrator.webhooks.sender import HttpSender, SystemResolver
from orchestrator.webhooks.sign import new_secret
from orchestrator.webhooks.slots import Slots
from standardwebhooks import Webhook, WebhookVerificationError

from services.orchestrator.tests.integration.webhooks.test_delivery_loop import LOOPBACK
from services.orchestrator.tests.webhook_examples import NOW
from services.orchestrator.tests.webhook_receiver import Receiver, Reply, Request, always, receiving

# The schedule of days, in seconds: seven attempts.
SCHEDULE = tuple(timedelta(seconds=step) for step in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
ATTEMPTS = len(SCHEDULE) + 1
TIMEOUT = timedelta(seconds=1.5)
LEASE = timedelta(seconds=6)
# Endpoint, the type of its events, and how many there are: 2,000.
PLAN = {
    "healthy": ("job.succeeded", 654),
    "flaky": ("job.failed", 650),
    "rotating": ("job.cancelled", 540),
    "ended": ("batch.completed", 100),
    "redirects": ("batch.failed", 50),
    "drips": ("file.indexed", 3),
    "hangs": ("file.failed", 3),
}
SHARE_OF_500 = 0.3


@dataclass
class Subscriber:
    """What a receiver saw. Every request must verify with the secret that it has at the time."""

    name: str
    secret: str
    reply: Any
    seen: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    unverified: int = 0

    def script(self, request: Request) -> Reply:
        try:
            Webhook(self.secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            self.unverified += 1
        self.seen[request.headers["webhook-id"]] += 1
        reply: Reply = self.reply()
        self.statuses[0 if reply.hang or reply.drip else reply.status] += 1
        if 200 <= reply.status < 300 and not (reply.hang or reply.drip):
            self.acknowledged[request.headers["webhook-id"]] += 1
        return reply


def to_record(event_type: str) -> Record:
    meta = EventMeta(event_id=new_id("evt_"), tenant_id="ten_1", occurred_at=timestamp_to_proto(NOW))
    kind, _, outcome = event_type.partition(".")
    if kind == "job":
        state = jobs.JobState.Value(f"JOB_STATE_{outcome.upper()}")
        message: Any = JobFinished(meta=meta, job=jobs.Job(id=new_id("job_"), tenant_id="ten_1", state=state))
        return Record(JOB_FINISHED, b"ten_1", message.SerializeToString())
    if kind == "batch":
        message = BatchFinished(meta=meta, batch_id=new_id("batch_"), status=outcome)
        return Record(BATCH_FINISHED, b"ten_1", message.SerializeToString())
    message = FileIndexed(meta=meta, file_id="file-1", vector_store_id="vs_1")
    if outcome == "failed":
        message.error.reason = "UNREADABLE"
    return Record(FILE_INDEXED, b"ten_1", message.SerializeToString())


@pytest.mark.timeout(400)
async def test_every_event_is_delivered_or_exhausted_by_the_schedule(
    database: Database, owner: Any, cipher: AesSecretCipher
) -> None:
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    endpoints, deliveries = PostgresWebhooks(database, cipher), PostgresDeliveries(database)
    queue = PostgresDeliveryQueue(database, cipher, disable_after=timedelta(days=5), min_failures=12)
    subscribers: dict[str, Subscriber] = {}
    ids: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        sentinel = await stack.enter_async_context(receiving(always(Reply())))
        for name, (event_type, _) in PLAN.items():
            subscriber = Subscriber(name, new_secret(), reply_of(name, chance, sentinel))
            receiver = await stack.enter_async_context(receiving(subscriber.script))
            change = EndpointChange(f"http://127.0.0.1:{receiver.port}/{name}", name, (event_type,))
            made = await endpoints.create("ten_1", change, subscriber.secret, max_endpoints=20)
            subscribers[name], ids[name] = subscriber, made.id
        resolver = await stack.enter_async_context(SystemResolver())
        sender = await stack.enter_async_context(HttpSender(resolver, LOOPBACK, TIMEOUT))

        def replica() -> asyncio.Task[None]:
            loop = DeliveryLoop(
                queue,
                Deliver(queue=queue, sender=sender, schedule=SCHEDULE),
                Slots(64, 8),
                lease=LEASE,
                poll_interval=timedelta(milliseconds=100),
            )
            return asyncio.create_task(loop.run(stop))

        stop = asyncio.Event()
        first, second = replica(), replica()
        records = [to_record(event_type) for event_type, count in PLAN.values() for _ in range(count)]
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
        await wait_until(lambda: len(rotating.acknowledged) > 270)
        rotating.secret = renewed  # deployed later than it was rotated
        while await owner.fetchval("SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'"):
            await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(second, third)

    rows = await owner.fetch(
        "SELECT endpoint_id, state, count(*) AS count, sum(attempts) AS attempts, min(attempts) AS fewest"
        " FROM webhook_deliveries WHERE event_type <> 'webhook_endpoint.disabled' GROUP BY 1, 2"
    )
    report(rows, ids, subscribers)
    check(rows, ids, subscribers, await endpoints.get("ten_1", ids["ended"]))
    assert sentinel.connections == 0


def reply_of(name: str, chance: random.Random, sentinel: Receiver) -> Any:
    def good_or_500() -> Reply:
        return Reply(500 if chance.random() < SHARE_OF_500 else 200)

    to_sentinel = Reply(302, headers={"Location": f"http://127.0.0.1:{sentinel.port}/"})
    return {
        "healthy": Reply,
        "flaky": good_or_500,
        "rotating": good_or_500,
        "ended": lambda: Reply(410),
        "redirects": lambda: to_sentinel,
        "drips": lambda: Reply(drip=True),
        "hangs": lambda: Reply(hang=True),
    }[name]


async def wait_until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def report(rows: list[Any], ids: dict[str, str], subscribers: dict[str, Subscriber]) -> None:
    columns = ("endpoint", "events", "delivered", "exhausted", "cancelled", "attempts", "repeated", "unverified")
    lines = ["  ".join(f"{column:>10}" for column in columns) + "  statuses"]
    for name, (_, count) in PLAN.items():
        of_endpoint = [row for row in rows if row["endpoint_id"] == ids[name]]
        states = {row["state"]: row["count"] for row in of_endpoint}
        subscriber = subscribers[name]
        values = (
            name,
            count,
            *(states.get(state, 0) for state in ("succeeded", "exhausted", "cancelled")),
            sum(row["attempts"] for row in of_endpoint),
            sum(times - 1 for times in subscriber.acknowledged.values()),
            subscriber.unverified,
        )
        lines.append("  ".join(f"{value:>10}" for value in values) + f"  {dict(subscriber.statuses)}")
    sys.stdout.write("\n".join([*lines, ""]))


def check(rows: list[Any], ids: dict[str, str], subscribers: dict[str, Subscriber], ended: Any) -> None:
    for name, (_, count) in PLAN.items():
        of_endpoint = {row["state"]: row for row in rows if row["endpoint_id"] == ids[name]}
        made = sum(row["count"] for row in of_endpoint.values())
        # Nothing more is made for an endpoint that was disabled.
        assert (made == count) or (name == "ended" and 1 <= made <= count), name
        assert subscribers[name].unverified == 0, name
        if exhausted := of_endpoint.get("exhausted"):
            assert exhausted["fewest"] == ATTEMPTS, name
        if name == "ended":
            assert set(of_endpoint) == {"cancelled"}
            assert not ended.enabled
        elif name in {"redirects", "drips", "hangs"}:
            assert set(of_endpoint) == {"exhausted"}
        else:
            # What is said to be delivered was acknowledged, and the rest has used its whole schedule.
            assert set(of_endpoint) <= {"succeeded", "exhausted"}
            assert len(subscribers[name].acknowledged) >= of_endpoint["succeeded"]["count"]
            assert of_endpoint["succeeded"]["count"] >= 0.95 * count
