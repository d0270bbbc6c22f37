"""Concurrent tenants with numbered requests, some of which the client abandons."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.chaos.journal import FIRST_REQUEST, chat_body
from tests.chaos.load import Load

CALLERS = 6
"""Requests in flight of each tenant."""
MAX_PAUSE_SECONDS = 0.2
AFTER_FAILURE_SECONDS = 0.5
"""What was killed needs seconds to come back, and a tenant's numbers are finite."""
ABANDONED_SHARE = 0.1
ABANDONED_AFTER_SECONDS = (0.05, 1.0)
MAX_REQUEST = 4096
"""The route's output limit."""


@dataclass(slots=True)
class Tenant:
    """A tenant, its key, and the number of its next request."""

    id: str
    key: str
    next_request: int = FIRST_REQUEST

    def number(self) -> int:
        """A number that no request of the tenant had."""
        number, self.next_request = self.next_request, self.next_request + 1
        assert number <= MAX_REQUEST, "the tenant has used up its numbers"
        return number


@dataclass(slots=True)
class Calling:
    """What the clients saw."""

    sent: int = 0
    abandoned: int = 0
    seconds: float = 0
    load: Load = field(default_factory=Load)


@asynccontextmanager
async def calling(
    base_url: str, tenants: Sequence[Tenant], models: Sequence[str], rng: random.Random
) -> AsyncIterator[Calling]:
    """Send requests for random models until the block ends; then every client waits for its last response."""
    seen, stop, began_at = Calling(), asyncio.Event(), time.monotonic()

    async def client(tenant: Tenant, own: random.Random) -> None:
        headers = {"authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as http:
            while not stop.is_set():
                stream = own.random() < 0.5
                give_up_after = own.uniform(*ABANDONED_AFTER_SECONDS) if own.random() < ABANDONED_SHARE else None
                await _send(
                    http, chat_body(own.choice(models), tenant.id, tenant.number(), stream=stream), give_up_after, seen
                )
                await asyncio.sleep(own.uniform(0, MAX_PAUSE_SECONDS))

    clients = [
        asyncio.create_task(client(tenant, random.Random(rng.random()))) for tenant in tenants for _ in range(CALLERS)
    ]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*clients)
        seen.seconds = time.monotonic() - began_at


async def _send(http: httpx.AsyncClient, body: dict[str, object], give_up_after: float | None, seen: Calling) -> None:
    seen.sent += 1
    try:
        async with asyncio.timeout(give_up_after):
            answer = await http.post("/v1/chat/completions", json=body)
    except TimeoutError:
        seen.abandoned += 1
    except httpx.HTTPError:
        seen.load.disconnected += 1
        await asyncio.sleep(AFTER_FAILURE_SECONDS)
    else:
        seen.load.record(answer.status_code, answer.headers, answer.text, streamed=bool(body["stream"]))
        if answer.status_code != 200:
            await asyncio.sleep(AFTER_FAILURE_SECONDS)
