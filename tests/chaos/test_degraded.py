"""What still works while a part hangs: a frozen part is worse than a dead one, whose connections end at once.

The markers `degraded` of these tests, and of others, are the rows of docs/degraded.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from tests.chaos import ledger_checks
from tests.chaos.faults import frozen
from tests.chaos.ledger_checks import wait_for
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

MODEL = "sim-degraded"
CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
CAP_USD, PER_MILLION = "0.2", 100_000_000_000
"""The tenant's cap, and the price of a million output tokens in nano-USD: the answers of a drill fit."""
TOO_DEAR_TOKENS = 4_096
"""More than the cap."""
FINAL = {"succeeded", "failed", "cancelled", "quarantined"}


@dataclass(frozen=True, slots=True)
class Drill:
    """A tenant with a cap, and what it does while a part hangs."""

    fleet: Fleet
    tenant_id: str
    http: httpx.AsyncClient

    async def chat(self, **fields: Any) -> httpx.Response:
        return await self.http.post(CHAT, json=BODY | fields)

    async def submit(self, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/jobs", json={"endpoint": CHAT, "body": BODY | fields})

    async def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = (await self.http.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
        return job

    async def until_succeeded(self, submitted: httpx.Response) -> None:
        assert submitted.status_code == 202, submitted.text
        job_id = submitted.json()["id"]

        async def final() -> bool:
            return (await self.job(job_id))["state"] in FINAL

        await wait_for(f"the job {job_id} ends", 90, final)
        job = await self.job(job_id)
        assert (job["state"], job["errors"]) == ("succeeded", 0), job

    async def until_exact(self) -> None:
        async def exact() -> bool:
            return not await ledger_checks.violations(self.fleet)

        await wait_for("all invariants of the ledger hold", 90, exact)

    async def paid_for(self, answer: httpx.Response) -> int:
        """Nano-USD of all settlements of a request."""
        request_id = answer.headers["x-request-id"]
        connection = await asyncpg.connect(self.fleet.postgres_dsn)
        try:
            query = "SELECT coalesce(sum(cost), 0)::bigint FROM metering.settlements WHERE request_id = $1"
            return int(await connection.fetchval(query, request_id))
        finally:
            await connection.close()


@pytest.fixture
async def drill(fleet: Fleet) -> AsyncIterator[Drill]:
    """A tenant that has been answered once, so that its key and the model's price are cached."""
    await fleet.add_model(MODEL, upstream_model="instant", output_per_million=PER_MILLION)
    tenant_id, key = await fleet.create_tenant(CAP_USD)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=headers, timeout=60) as http:
        drill = Drill(fleet, tenant_id, http)
        assert (await drill.chat()).status_code == 200
        yield drill


@asynccontextmanager
async def hanging(fleet: Fleet, part: str) -> AsyncIterator[None]:
    """Freeze all replicas of a part during the block."""
    async with AsyncExitStack() as stack:
        for replica in fleet.replicas_of(part):
            await stack.enter_async_context(frozen(fleet.pid_of(replica)))
        yield


def assert_refused(answer: httpx.Response, code: str = "service_unavailable", status: int = 503) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def show(what: str, started: float) -> None:
    print(f"  {what}: {time.monotonic() - started:.2f} s")


@pytest.mark.degraded(down="Redis", area="sync", holds="requests are answered; nothing of them needs Redis")
@pytest.mark.degraded(down="Redis", area="jobs", holds="jobs run to their end; who watches one sees states, no deltas")
@pytest.mark.degraded(
    down="Redis", area="money", holds="budgets refuse and bill as ever, because they do not use Redis"
)
async def test_while_redis_hangs_requests_jobs_and_budgets_go_on(drill: Drill) -> None:
    async with hanging(drill.fleet, "redis"):
        started = time.monotonic()
        answers = [await drill.chat() for _ in range(5)]
        show("5 answers while Redis hangs", started)
        assert [answer.status_code for answer in answers] == [200] * 5
        assert_refused(await drill.chat(max_tokens=TOO_DEAR_TOKENS), "insufficient_quota", 429)
        await drill.until_succeeded(await drill.submit())
    await drill.until_exact()
    for answer in answers:
        assert await drill.paid_for(answer) > 0


@pytest.mark.degraded(down="Kafka", area="sync", holds="requests are answered; their usage waits in the outbox")
@pytest.mark.degraded(
    down="Kafka", area="jobs", holds="jobs are accepted and run: workers ask for those that no record brings"
)
@pytest.mark.degraded(down="Kafka", area="money", holds="nothing is lost: what waited is settled to the nano-dollar")
async def test_while_kafka_hangs_requests_are_answered_and_nothing_is_lost(drill: Drill) -> None:
    async with hanging(drill.fleet, "kafka"):
        answers = [await drill.chat() for _ in range(5)]
        submitted = await drill.submit()
        assert [answer.status_code for answer in answers] == [200] * 5
        await drill.until_succeeded(submitted)
        assert "an event waits in an outbox" in await ledger_checks.violations(drill.fleet)
    await drill.until_exact()
    for answer in answers:
        assert await drill.paid_for(answer) > 0


@pytest.mark.degraded(down="Postgres", area="sync", holds="503, never 401: a key that was used lately is still known")
@pytest.mark.degraded(down="Postgres", area="jobs", holds="503 to a submission: none is accepted that could be lost")
@pytest.mark.degraded(down="Postgres", area="money", holds="fails closed: no reservation, no call, no charge")
async def test_while_postgres_hangs_nothing_is_answered_and_nobody_is_unauthenticated(drill: Drill) -> None:
    async with hanging(drill.fleet, "postgres"):
        started = time.monotonic()
        refused, streamed, job = await asyncio.gather(drill.chat(), drill.chat(stream=True), drill.submit())
        show("503 while Postgres hangs", started)
        for answer in (refused, streamed, job):
            assert_refused(answer)

    async def recovered() -> bool:
        return (await drill.chat()).status_code == 200

    await wait_for("requests are answered again", 60, recovered)
    await drill.until_exact()
    assert [await drill.paid_for(answer) for answer in (refused, streamed)] == [0, 0]


@pytest.mark.degraded(
    down="retrieval", area="sync", holds="an answer without context if the request says `optional`, else 503"
)
@pytest.mark.degraded(down="retrieval", area="jobs", holds="a job that needs context waits, and runs when it is back")
@pytest.mark.degraded(down="retrieval", area="money", holds="what is refused for want of context costs nothing")
async def test_while_retrieval_hangs_context_is_left_out_where_the_request_allows(drill: Drill) -> None:
    store = (await drill.http.post("/v1/vector_stores", json={"name": "degraded"})).raise_for_status().json()["id"]
    needed = {"vector_store_ids": [store]}
    async with hanging(drill.fleet, "retrieval"):
        started = time.monotonic()
        submitted = await drill.submit(argosy={"retrieval": needed})
        optional, refused = await asyncio.gather(
            drill.chat(argosy={"retrieval": needed | {"optional": True}}), drill.chat(argosy={"retrieval": needed})
        )
        show("both answers while retrieval hangs", started)
        assert optional.status_code == 200, optional.text
        assert_refused(refused)
    await drill.until_succeeded(submitted)
    await drill.until_exact()
    assert await drill.paid_for(refused) == 0


@pytest.mark.degraded(down="metering", area="sync", holds="503 within the deadline of a reservation")
@pytest.mark.degraded(down="metering", area="jobs", holds="jobs are accepted and wait; none fails for it")
@pytest.mark.degraded(down="metering", area="money", holds="fails closed: no provider is called without a reservation")
async def test_while_metering_hangs_requests_are_refused_and_jobs_wait(drill: Drill) -> None:
    async with hanging(drill.fleet, "metering"):
        started = time.monotonic()
        refused, submitted = await asyncio.gather(drill.chat(), drill.submit())
        show("503 while metering hangs", started)
        assert_refused(refused)
        assert (await drill.job(submitted.json()["id"]))["state"] not in FINAL
    await drill.until_succeeded(submitted)
    await drill.until_exact()
    assert await drill.paid_for(refused) == 0
