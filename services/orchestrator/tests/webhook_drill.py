"""What the drills of webhooks share: events, endpoints that misbehave in every way, and the table of the results."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from argosy.common.v1.common_pb2 import EventMeta
from argosy.orchestration.v1 import jobs_pb2 as jobs
from argosy.orchestration.v1.events_pb2 import BatchFinished, JobFinished
from argosy.retrieval.v1.events_pb2 import FileIndexed
from chassis.ids import new_id
from chassis.kafka import Record
from orchestrator.webhooks.consumer import BATCH_FINISHED, FILE_INDEXED, JOB_FINISHED
from standardwebhooks import Webhook, WebhookVerificationError
from values.protos import timestamp_to_proto

from services.orchestrator.tests.webhook_examples import NOW
from services.orchestrator.tests.webhook_receiver import Receiver, Reply, Request

# The schedule of days, in seconds: seven attempts.
SCHEDULE_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
ATTEMPTS = len(SCHEDULE_SECONDS) + 1
TIMEOUT_SECONDS = 1.5
# Endpoint, the type of its events, and how many there are: 2,000.
Plan = dict[str, tuple[str, int]]
PLAN: Plan = {
    "healthy": ("job.succeeded", 654),
    "flaky": ("job.failed", 650),
    "rotating": ("job.cancelled", 540),
    "ended": ("batch.completed", 100),
    "redirects": ("batch.failed", 50),
    "drips": ("file.indexed", 3),
    "hangs": ("file.failed", 3),
}
SHARE_OF_500 = 0.3


def scaled(share: float) -> Plan:
    """The plan with a share of its events."""
    return {name: (event_type, math.ceil(count * share)) for name, (event_type, count) in PLAN.items()}


@dataclass
class Subscriber:
    """What a receiver saw. Every request must verify with the secret that it has at the time."""

    name: str
    secret: str
    reply: Callable[[], Reply]
    seen: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    unverified: int = 0
    first_seen: dict[str, float] = field(default_factory=dict)
    """When an event arrived first, by the monotonic clock."""

    def script(self, request: Request) -> Reply:
        try:
            Webhook(self.secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            self.unverified += 1
        self.seen[request.headers["webhook-id"]] += 1
        self.first_seen.setdefault(request.headers["webhook-id"], monotonic())
        reply = self.reply()
        self.statuses[0 if reply.hang or reply.drip else reply.status] += 1
        if 200 <= reply.status < 300 and not (reply.hang or reply.drip):
            self.acknowledged[request.headers["webhook-id"]] += 1
        return reply


def to_record(tenant_id: str, event_type: str) -> Record:
    meta = EventMeta(event_id=new_id("evt_"), tenant_id=tenant_id, occurred_at=timestamp_to_proto(NOW))
    kind, _, outcome = event_type.partition(".")
    if kind == "job":
        state = jobs.JobState.Value(f"JOB_STATE_{outcome.upper()}")
        message: Any = JobFinished(meta=meta, job=jobs.Job(id=new_id("job_"), tenant_id=tenant_id, state=state))
        return Record(JOB_FINISHED, tenant_id.encode(), message.SerializeToString())
    if kind == "batch":
        message = BatchFinished(meta=meta, batch_id=new_id("batch_"), status=outcome)
        return Record(BATCH_FINISHED, tenant_id.encode(), message.SerializeToString())
    message = FileIndexed(meta=meta, file_id="file-1", vector_store_id="vs_1")
    if outcome == "failed":
        message.error.reason = "UNREADABLE"
    return Record(FILE_INDEXED, tenant_id.encode(), message.SerializeToString())


def reply_of(name: str, chance: random.Random, sentinel: Receiver) -> Callable[[], Reply]:
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


def report(rows: list[Any], ids: dict[str, str], subscribers: dict[str, Subscriber], plan: Plan) -> None:
    columns = ("endpoint", "events", "delivered", "exhausted", "cancelled", "attempts", "repeated", "unverified")
    lines = ["  ".join(f"{column:>10}" for column in columns) + "  statuses"]
    for name, (_, count) in plan.items():
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


def check(rows: list[Any], ids: dict[str, str], subscribers: dict[str, Subscriber], plan: Plan, ended: Any) -> None:
    for name, (_, count) in plan.items():
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
