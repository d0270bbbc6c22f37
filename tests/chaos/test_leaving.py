"""A tenant cannot turn its cap off: by disconnecting, by leaving a stream early, or while Kafka is down.

The provider's journal says what every call costs, metering's settlements what the tenant paid. The house is out the
difference, and may have to bear what was exposed: both stay within the tenant's cap and the bound of one request.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.chaos.callers import Tenant
from tests.chaos.faults import frozen
from tests.chaos.journal import Journal, add_models, chat_body, count_held, embedding_body, read_requests
from tests.chaos.ledger_checks import violations, wait_for
from tests.chaos.own_gateway import DEADLINE_SECONDS, OwnGateway
from tests.chaos.pairing import pair_all
from tests.fleet.client import Fleet
from tests.fleet.environment import SHORT_TIMES

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

PRICE = (1_000, 1_000_000_000)
"""A thousand nano-USD for a token of the output, and next to nothing for one of the input."""
INPUT_PRICE = (1_000_000_000, 1_000)
FIRST_LIMIT = 1000
BOUND = 1_000_000
"""What a request holds, about: its output limit is a thousand tokens and some more."""
DISCONNECTS = 50
PARTS = ("content", "parts", "reasoning", "details", "function_call", "audio")
ROOM_OF_LEAVERS, LEAVERS = 3, 12
SCHEMA_WORDS, SCHEMA_READERS = 400, 40
"""Words are tokens of two bytes each: the bound of a request is about twice what its schema costs."""
ROOM_WITHOUT_KAFKA = 10
LEASE_SECONDS = DEADLINE_SECONDS + sum(
    float(SHORT_TIMES[name]) for name in ("ORCHESTRATOR_TIMEOUTS__ABORT", "ORCHESTRATOR_RESERVATION_LEASE")
)
"""A request's: its deadline, the time to hear of its usage after an abort, and the reserve (orchestrator's limits)."""
SWEPT_AFTER_SECONDS = 1.5 * float(SHORT_TIMES["METERING_SWEEPER__INTERVAL"])
HANGING, STREAMING, QUICK = "answer?long=1&wait=0.7", "answer?long=1&late=0.3&part=", "answer?long=1"
SCHEMA, EMBEDDING = "answer?schema=1&interval=0.5", "answer?wait=0.7&vectors=1"


@dataclass(frozen=True, slots=True)
class Drill:
    """What the drills share."""

    fleet: Fleet
    journal: Journal
    base_url: str

    @asynccontextmanager
    async def client(self, room: float) -> AsyncIterator[tuple[Tenant, httpx.AsyncClient]]:
        """A client of a new tenant whose cap has room for so many requests."""
        tenant_id, key = await self.fleet.create_tenant(f"{room * BOUND / 10**9:.9f}")
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=30) as http:
            yield Tenant(tenant_id, key, FIRST_LIMIT), http


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def drill(fleet: Fleet, journal: Journal, gateway: OwnGateway) -> Drill:
    """The fleet with the journaled provider, and its models."""
    models = {"leave-hanging": HANGING, "leave-quick": QUICK} | {
        f"leave-{part}": f"{STREAMING}{part}" for part in PARTS
    }
    await add_models(fleet, {name: [model] for name, model in models.items()}, dict.fromkeys(models.values(), PRICE))
    await add_models(fleet, {"leave-schema": [SCHEMA]}, {SCHEMA: INPUT_PRICE})
    await add_models(fleet, {"leave-embedding": [EMBEDDING]}, {EMBEDDING: INPUT_PRICE}, task="embedding")
    return Drill(fleet, journal, gateway.base_url)


@dataclass(frozen=True, slots=True)
class Books:
    """One tenant in figures, in nano-USD, and what does not pair (`pairing.py`)."""

    cap: int
    calls: int
    bill: int
    """What the provider asks for."""
    spent: int
    exposed: int
    max_bound: int
    unpaired: tuple[str, ...]

    @property
    def unpaid(self) -> int:
        """What the house is out, or may be."""
        return max(self.bill - self.spent, self.exposed)

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, the provider asks for {self.bill}, spent {self.spent}, exposed {self.exposed}: "
            f"the house's unpaid sum is {self.unpaid}, {self.unpaid / self.cap:.1f} times the cap of {self.cap}"
        )


async def books_of(drill: Drill, tenant: Tenant) -> Books:
    """Compare the journal with the books, once no request of the tenant is held and its usage events were settled."""
    await wait_until_settled(drill, tenant)
    calls = drill.journal.calls([tenant.id])
    requests = await read_requests(drill.fleet, [tenant.id])
    bounds = {key: request.bounds[0] for key, request in requests.items()}
    settled = [settlement for request in requests.values() for settlement in request.settlements]
    return Books(
        cap=await _cap_of(drill.fleet, tenant),
        calls=len(calls),
        bill=sum(bounds[tenant.id, call.request].cost_of(*call.tokens) for call in calls),
        spent=sum(settlement.cost for settlement in settled),
        exposed=sum(settlement.exposed for settlement in settled),
        max_bound=max(bound.cost for bound in bounds.values()),
        unpaired=tuple(pair_all(calls, requests).unpaired),
    )


async def wait_until_settled(drill: Drill, tenant: Tenant) -> None:
    async def settled() -> bool:
        calls = drill.journal.calls([tenant.id])
        return all(call.end != "running" for call in calls) and not await violations(drill.fleet)

    await wait_for("all calls have ended and all requests are settled", 60, settled)


async def _cap_of(fleet: Fleet, tenant: Tenant) -> int:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        cap: int = await connection.fetchval(
            "SELECT cap FROM metering.budgets WHERE tenant_id = $1 AND scope = 'tenant'", tenant.id
        )
    finally:
        await connection.close()
    return cap


def judge(name: str, books: Books) -> list[str]:
    """Print the figures; return what is wrong with them."""
    print(f"  {name}: {books}")
    allowed = books.cap + books.max_bound
    wrong = [f"{name}: {books}, and at most {allowed} is allowed"] if books.unpaid > allowed else []
    if not books.calls:
        wrong.append(f"{name}: no call reached the provider, so this shows nothing")
    return [*wrong, *books.unpaired]


async def wait_until_free(drill: Drill, tenant: Tenant) -> None:
    """Wait until the last request holds nothing any more: a patient client would ask again then."""

    async def free() -> bool:
        return not await count_held(drill.fleet, tenant.id)

    await wait_for("the last request holds no money", 30, free, interval=0.05)


async def disconnect_early(
    drill: Drill, http: httpx.AsyncClient, tenant: Tenant, path: str, body: dict[str, object], *, number: int
) -> None:
    """Send a request and disconnect once the provider has it; return at once when it is refused."""
    request = asyncio.create_task(http.post(path, json=body))
    while not request.done() and not drill.journal.began(tenant.id, number):
        await asyncio.sleep(0.01)
    request.cancel()
    with suppress(asyncio.CancelledError, httpx.HTTPError):
        await request
    await wait_until_free(drill, tenant)


async def test_disconnecting_does_not_turn_the_cap_off(drill: Drill) -> None:
    async def run(kind: str) -> list[str]:
        async with drill.client(room=1.5) as (tenant, http):
            for _ in range(DISCONNECTS):
                number = tenant.number()
                path, body = "/v1/chat/completions", chat_body("leave-hanging", tenant.id, number, stream=False)
                if kind == "embeddings":
                    path, body = "/v1/embeddings", embedding_body("leave-embedding", tenant.id, number)
                elif kind == "before the first byte":
                    body["stream"] = True
                await disconnect_early(drill, http, tenant, path, body, number=number)
            return judge(f"{DISCONNECTS} disconnects, {kind}, on room for one", await books_of(drill, tenant))

    wrong = await asyncio.gather(*map(run, ("not streamed", "before the first byte", "embeddings")))
    assert [sentence for sentences in wrong for sentence in sentences] == []


async def leave_at_finish_reason(http: httpx.AsyncClient, body: dict[str, object]) -> bool:
    """Read a stream up to its finish reason and disconnect, before its usage; return whether it was accepted."""
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return False
        async for line in answer.aiter_lines():
            choices = json.loads(line[6:]).get("choices") if line.startswith("data: {") else None
            if choices and choices[0].get("finish_reason"):
                return True
    raise AssertionError("the stream ended without a finish reason")


async def test_leaving_at_the_finish_reason_is_not_free(drill: Drill) -> None:
    async def leave(part: str) -> list[str]:
        async with drill.client(room=ROOM_OF_LEAVERS + 0.5) as (tenant, http):
            for _ in range(LEAVERS):
                await leave_at_finish_reason(http, chat_body(f"leave-{part}", tenant.id, tenant.number(), stream=True))
                await wait_until_free(drill, tenant)
            return judge(f"{LEAVERS} streams of {part} on room for {ROOM_OF_LEAVERS}", await books_of(drill, tenant))

    wrong = await asyncio.gather(*map(leave, PARTS))
    assert [sentence for sentences in wrong for sentence in sentences] == []


async def leave_at_first_chunk(http: httpx.AsyncClient, body: dict[str, object]) -> None:
    """Read a stream up to its first choice and disconnect; return at once when it is refused."""
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and json.loads(line[6:]).get("choices"):
                return


async def test_a_schema_in_the_prompt_is_not_free_for_who_leaves_early(drill: Drill) -> None:
    """The provider is stopped before it reports, so Argosy counts the prompt, and the schema is nearly all of it."""
    schema = {"type": "object", "description": " a" * SCHEMA_WORDS}
    response_format = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    async with drill.client(room=ROOM_OF_LEAVERS + 0.5) as (tenant, http):
        for _ in range(SCHEMA_READERS):
            body = chat_body("leave-schema", tenant.id, tenant.number(), stream=True)
            await leave_at_first_chunk(http, body | {"response_format": response_format})
            await wait_until_free(drill, tenant)
        books = await books_of(drill, tenant)
    name = f"{SCHEMA_READERS} streams with a JSON schema, left at the first chunk, on room for {ROOM_OF_LEAVERS}"
    assert judge(name, books) == []
    assert books.bill > SCHEMA_WORDS * books.calls, "the provider has not read the schemas"


@pytest.mark.degraded(down="Kafka", area="money", holds="a cap holds although usage is not settled yet")
async def test_the_cap_does_not_refill_while_kafka_is_down(drill: Drill) -> None:
    async with drill.client(room=ROOM_WITHOUT_KAFKA + 0.5) as (tenant, http):
        async with frozen(drill.fleet.pid_of("kafka")):
            await _call(http, tenant)
            await wait_for("all leases are over, and were swept", 60, lambda: _leases_are_over(drill.fleet, tenant))
            await _call(http, tenant)
        books = await books_of(drill, tenant)
    name = f"{2 * ROOM_WITHOUT_KAFKA} calls on room for {ROOM_WITHOUT_KAFKA}, Kafka frozen for longer than a lease"
    wrong = judge(name, books)
    assert wrong == []
    # The usage of all of them was known all the time, so nothing may be left unpaid.
    assert books.calls == ROOM_WITHOUT_KAFKA, f"{name}: {books}"
    assert books.unpaid == 0, f"{name}: {books}"


async def _call(http: httpx.AsyncClient, tenant: Tenant) -> None:
    for _ in range(ROOM_WITHOUT_KAFKA):
        body = chat_body("leave-quick", tenant.id, tenant.number(), stream=False)
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code in {200, 429}, answer.text


async def _leases_are_over(fleet: Fleet, tenant: Tenant) -> bool:
    """Whether the first lease of every request has run out for long enough: a sweeper may have extended it since."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        over: bool = await connection.fetchval(
            "SELECT max(created_at) < clock_timestamp() - make_interval(secs => $2) FROM metering.reservations "
            "WHERE tenant_id = $1",
            tenant.id,
            LEASE_SECONDS + SWEPT_AFTER_SECONDS,
        )
    finally:
        await connection.close()
    return over
