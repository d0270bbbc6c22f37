"""Cached answers while the services that account for them are killed: each is on record once, at its price."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.fleet.cached_model import Cached, a_cached_model
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600), pytest.mark.xdist_group("simulator")]

CLIENTS, AFTER_A_KILL = 8, 40
"""Clients at once, and the answers that they get after each kill before the next one."""


@dataclass
class Asking:
    """Clients of a tenant that ask for the same answer until they are stopped."""

    cached: Cached
    tenant: httpx.AsyncClient
    hits: dict[str, int] = field(default_factory=dict)
    """The cost of each cached answer that a client got, in nano-USD, by request."""
    failed: int = 0
    stopped: bool = False

    async def client(self) -> None:
        body = {"model": self.cached.model, "messages": [{"role": "user", "content": "The same"}], "max_tokens": 64}
        while not self.stopped:
            try:
                answer = await self.tenant.post("/v1/chat/completions", json=body)
            except httpx.TransportError:
                self.failed += 1
                continue
            if answer.status_code == 200 and answer.headers["argosy-cache"] == "hit":
                nano_usd = round(float(answer.headers["argosy-cost"]) * 1e9)
                self.hits[answer.headers["x-request-id"]] = nano_usd
            else:
                self.failed += answer.status_code != 200
                await asyncio.sleep(0.05)

    async def until(self, hits: int) -> None:
        while len(self.hits) < hits:
            await asyncio.sleep(0.05)

    async def settled(self, fleet: Fleet) -> Counter[tuple[int, ...]]:
        """Count the requests by how far the cost of each settlement is from the cost that its client was told."""
        found: Counter[tuple[int, ...]] = Counter()
        for request_id, cost in self.hits.items():
            statement = await settled_statement(fleet, self.tenant, request_id)
            found[tuple(int(one["cost_nano_usd"]) - cost for one in statement["settlements"])] += 1
        return found


async def settled_statement(fleet: Fleet, tenant: httpx.AsyncClient, request_id: str) -> dict[str, Any]:
    """Wait for a settlement: metering has to start again, and Kafka gives the partitions of a killed consumer away when
    its session is over."""
    for _ in range(4):
        while (await tenant.get(f"/v1/requests/{request_id}")).status_code == 503:
            await asyncio.sleep(0.5)
        with suppress(TimeoutError):
            return await fleet.statement_of(tenant, request_id)
    raise AssertionError(f"{request_id} is not on record")


async def running(fleet: Fleet, part: str) -> int:
    """Wait until a part runs, and return its process."""
    while not (pid := fleet.pid_of(part)):
        await asyncio.sleep(0.1)
    return pid


@pytest.mark.parametrize(
    ("charge", "victims"),
    [("full", ("metering", "orchestrator", "metering", "orchestrator")), ("free", ("metering", "metering"))],
)
async def test_each_cached_answer_is_on_record_once_whatever_is_killed(
    fleet: Fleet, charge: str, victims: tuple[str, ...]
) -> None:
    """A kill of the orchestrator may lose the last records of free answers: docs/adr/0052."""
    async with a_cached_model(fleet, charge=charge) as cached, fleet.new_tenant() as tenant:
        await cached.ask(tenant, "The same")
        asking = Asking(cached, tenant)
        clients = [asyncio.create_task(asking.client()) for _ in range(CLIENTS)]
        for victim in victims:
            await asking.until(len(asking.hits) + AFTER_A_KILL)
            os.kill(await running(fleet, victim), signal.SIGKILL)
        await asking.until(len(asking.hits) + AFTER_A_KILL)
        asking.stopped = True
        await asyncio.gather(*clients)
        found = await asking.settled(fleet)
        usage = (await tenant.get("/v1/usage")).json()

    print(f"  {charge}: {len(asking.hits)} cached answers, {asking.failed} failed, settlements {dict(found)}")
    assert found == {(0,): len(asking.hits)}
    if charge == "free":
        assert set(asking.hits.values()) == {0}
        assert sum(one["cache_hits"] for one in usage["data"]) == len(asking.hits)
