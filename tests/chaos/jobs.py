"""Jobs of a drill: submits them, waits for their end, and reads what the oracles compare.

The oracles: the provider's journal (which calls it received), `orchestration.finished_jobs`, `metering.settlements`,
and the topic of finished jobs.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer
from argosy.orchestration.v1.events_pb2 import JobFinished
from argosy_dev.fleet.paths import read_pairs

from tests.chaos.journal import Journal
from tests.fleet.client import Fleet
from tests.fleet.environment import PATHS

FINISHED_TOPIC = "argosy.orchestration.job-finished.v1"
SUBMITTERS = 32
MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class JobTenant:
    """A tenant of a drill."""

    id: str
    key: str


@dataclass(slots=True)
class Submitted:
    """Accepted jobs, and how long each submission took."""

    ids: list[str] = field(default_factory=list)
    by_number: dict[int, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def job_body(model: str, tenant: str, number: int, *, stream: bool = False) -> dict[str, Any]:
    """A chat completion that the journal can be recognized by: its tenant and number."""
    messages = [{"role": "user", "content": f"{tenant} {number}"}]
    body = {"model": model, "max_tokens": MAX_TOKENS, "messages": messages}
    return body | ({"stream": True} if stream else {})


async def submit(
    base_url: str,
    tenant: JobTenant,
    model: str,
    numbers: Iterable[int],
    *,
    lane: str | None = None,
    stream: bool = False,
    until_accepted: bool = False,
    per_second: float | None = None,
) -> Submitted:
    """Submit a job for each number, several at a time; with `until_accepted` again after an error of the service."""
    waiting, result = iter(numbers), Submitted()
    started = asyncio.get_running_loop().time()
    turns = count()
    headers = {"authorization": f"Bearer {tenant.key}"}

    async def submitter(http: httpx.AsyncClient) -> None:
        for number in waiting:
            if per_second is not None:
                await asyncio.sleep(started + next(turns) / per_second - asyncio.get_running_loop().time())
            body = {"endpoint": "/v1/chat/completions", "body": job_body(model, tenant.id, number, stream=stream)}
            while True:
                job_id = await _submit_one(http, body | ({"lane": lane} if lane else {}), result)
                if job_id is not None:
                    result.ids.append(job_id)
                    result.by_number[number] = job_id
                if job_id is not None or not until_accepted:
                    break
                await asyncio.sleep(0.2)

    limits = httpx.Limits(max_connections=SUBMITTERS)
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60, limits=limits) as http:
        await asyncio.gather(*(submitter(http) for _ in range(SUBMITTERS)))
    return result


async def _submit_one(http: httpx.AsyncClient, body: dict[str, Any], result: Submitted) -> str | None:
    started = time.monotonic()
    try:
        response = await http.post("/v1/jobs", json=body)
    except httpx.TransportError as error:
        result.refused[type(error).__name__] += 1
        return None
    if response.status_code != 202:
        result.refused[response.json()["error"]["code"]] += 1
        return None
    result.seconds.append(time.monotonic() - started)
    return str(response.json()["id"])


@asynccontextmanager
async def connected(fleet: Fleet) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def unfinished(fleet: Fleet, tenants: Sequence[str]) -> Counter[str]:
    """The jobs of these tenants that are not final, by state."""
    async with connected(fleet) as connection:
        rows = await connection.fetch(
            "SELECT state, count(*) FROM orchestration.jobs WHERE tenant_id = ANY($1) GROUP BY 1", list(tenants)
        )
    return Counter({row["state"]: row["count"] for row in rows})


async def waiting_events(fleet: Fleet) -> int:
    """How many events Kafka has not acknowledged."""
    async with connected(fleet) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM orchestration.outbox")
    return count


async def wait_until_drained(
    fleet: Fleet,
    tenants: Sequence[str],
    seconds: float,
    *,
    may_stay: Iterable[str] = ("quarantined",),
    on_poll: Callable[[Counter[str]], Awaitable[None]] | None = None,
) -> float:
    """Wait until all jobs are final; return the seconds it took. Quarantined ones stay."""
    started = time.monotonic()
    while True:
        left = await unfinished(fleet, tenants)
        if on_poll is not None:
            await on_poll(left)
        if not left.keys() - set(may_stay):
            return time.monotonic() - started
        assert time.monotonic() - started < seconds, f"after {seconds} s there are still {dict(left)}"
        await asyncio.sleep(0.5)


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A row of `finished_jobs`."""

    id: str
    state: str
    errors: int
    crashes: int
    created_at: float
    started_at: float
    finished_at: float
    cost: int
    reason: str


async def finished(fleet: Fleet, tenants: Sequence[str], ids: Sequence[str] | None = None) -> dict[str, FinishedJob]:
    """The final jobs of these tenants by id; of some ids only if they are given."""
    async with connected(fleet) as connection:
        rows = await connection.fetch(
            "SELECT job_id, state, errors, crashes, extract(epoch FROM created_at)::float8 AS created_at, "
            "coalesce(extract(epoch FROM started_at), 0)::float8 AS started_at, "
            "extract(epoch FROM finished_at)::float8 AS finished_at, cost_nano_usd, error "
            "FROM orchestration.finished_jobs WHERE tenant_id = ANY($1) AND ($2::text[] IS NULL OR job_id = ANY($2))",
            list(tenants),
            None if ids is None else list(ids),
        )
    return {
        row["job_id"]: FinishedJob(
            row["job_id"],
            row["state"],
            row["errors"],
            row["crashes"],
            row["created_at"],
            row["started_at"],
            row["finished_at"],
            row["cost_nano_usd"],
            json.loads(row["error"])["reason"] if row["error"] else "",
        )
        for row in rows
    }


async def finished_events(tenants: Sequence[str]) -> Counter[str]:
    """How many different events say that a job is final, by its id. A relay may publish one event twice."""
    servers = read_pairs(PATHS.env)["ARGOSY_KAFKA_BOOTSTRAP"]
    consumer = AIOKafkaConsumer(
        FINISHED_TOPIC, bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    seen: dict[str, set[str]] = {}
    try:
        partitions = consumer.assignment()  # without a group: all of them
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event = JobFinished.FromString(record.value)
                    if event.meta.tenant_id in tenants:
                        seen.setdefault(event.job.id, set()).add(event.meta.event_id)
    finally:
        await consumer.stop()
    return Counter({job: len(events) for job, events in seen.items()})


@dataclass(frozen=True, slots=True)
class Money:
    """What the calls of a drill cost, by both sides."""

    calls: int
    answered: int
    billed: int
    exposed: int
    released: int
    billed_twice: int
    """Bills that name the tokens of the same call."""
    billed_without_call: int
    answered_unsettled: int
    """Answered calls that are neither billed nor covered by an exposed settlement."""
    held: int


async def money(fleet: Fleet, journal: Journal, tenants: Sequence[str]) -> Money:
    """Compare the journal with metering's settlements. No two calls report the same tokens."""
    calls = journal.calls(tenants)
    async with connected(fleet) as connection:
        rows = await connection.fetch(
            "SELECT outcome, input_tokens, output_tokens, reported_input_tokens, reported_output_tokens "
            "FROM metering.settlements WHERE tenant_id = ANY($1)",
            list(tenants),
        )
        held = await connection.fetchval(
            "SELECT count(*) FROM metering.reservations WHERE tenant_id = ANY($1) AND state = 'held'", list(tenants)
        )
    outcomes = Counter(row["outcome"] for row in rows)
    billed = Counter(
        (
            row["input_tokens"] if row["reported_input_tokens"] is None else row["reported_input_tokens"],
            row["output_tokens"] if row["reported_output_tokens"] is None else row["reported_output_tokens"],
        )
        for row in rows
        if row["outcome"] == "billed"
    )
    answered = {call.tokens for call in calls if call.end == "answered"}
    return Money(
        calls=len(calls),
        answered=len(answered),
        billed=outcomes["billed"],
        exposed=outcomes["exposed"],
        released=outcomes["released"],
        billed_twice=sum(count - 1 for count in billed.values()),
        billed_without_call=len(billed.keys() - {call.tokens for call in calls}),
        answered_unsettled=max(0, len(answered - billed.keys()) - outcomes["exposed"]),
        held=held,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which that many percent lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def ends_of(seconds: Sequence[float], percent: float = 99) -> str:
    """The median and an upper percentile of durations, to print."""
    values = (percentile(seconds, 50), percentile(seconds, percent))
    return f"p50 {values[0] * 1000:.0f} ms, p{percent:.0f} {values[1] * 1000:.0f} ms"


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all shares are equal, 1/n when one has all (Jain, Chiu, Hawe 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def show(rows: dict[str, Any]) -> None:
    """Print the table of a drill."""
    for name, value in rows.items():
        print(f"  {name:<28} {value}")
