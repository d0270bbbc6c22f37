"""Clients of models whose provider can be switched while they call; each model has tenants of its own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from tests.chaos.callers import Tenant
from tests.chaos.journal import add_models, chat_body
from tests.chaos.ledger_checks import wait_for
from tests.fleet.client import Fleet

PRICE = (1_000_000, 10_000_000)
CLIENTS, PAUSE_SECONDS = 4, 0.15


@dataclass(slots=True)
class Answer:
    """What a client got; times in seconds since 1970."""

    tenant: str
    began: float
    ended: float
    code: str
    """Empty for a complete answer."""


@dataclass(slots=True)
class Drill:
    """The requests for one model of the provider."""

    name: str
    """That of its fault, and of what is special about it."""
    switch: str
    model: str
    tenants: tuple[Tenant, ...]
    answers: list[Answer] = field(default_factory=list)

    @property
    def tenant_ids(self) -> list[str]:
        return [tenant.id for tenant in self.tenants]

    async def run(self, http: httpx.AsyncClient, tenant: Tenant, stop: asyncio.Event) -> None:
        """Send requests until `stop`, each to its end, every second one streamed."""
        headers = {"authorization": f"Bearer {tenant.key}"}
        while not stop.is_set():
            number, began = tenant.number(), time.time()
            body = chat_body(self.model, tenant.id, number, stream=number % 2 == 0)
            answer = await http.post("/v1/chat/completions", json=body, headers=headers)
            self.answers.append(Answer(tenant.id, began, time.time(), error_code(answer)))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)

    def answered_all_since(self, at: float) -> bool:
        """Whether each tenant got a complete answer to a request that began after a time."""
        return {one.tenant for one in self.answers if one.began >= at and not one.code} == set(self.tenant_ids)


def error_code(answer: httpx.Response) -> str:
    """The code of an error, before or in a stream. Raises when the answer is neither complete nor a typed error."""
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        if events[-1] == "[DONE]":
            return ""
        text = events[-1]
    elif answer.status_code == 200:
        return ""
    return str(json.loads(text)["error"]["code"])


@asynccontextmanager
async def under_load(fleet: Fleet, base_url: str, names: Mapping[str, int]) -> AsyncIterator[Sequence[Drill]]:
    """Send requests for a model of each name until the block ends, by so many tenants.

    The block begins when all of them are answered.
    """
    drills = []
    for name, number in names.items():
        tenants = tuple([Tenant(*await fleet.create_tenant()) for _ in range(number)])
        drills.append(Drill(name, fleet.unique("switch"), fleet.unique("sim-breaker"), tenants))
    models = {drill.model: f"switched?name={drill.switch}" for drill in drills}
    await add_models(fleet, {name: [model] for name, model in models.items()}, dict.fromkeys(models.values(), PRICE))
    stop, limits = asyncio.Event(), httpx.Limits(max_connections=None)
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits))
        await wait_until_served(http, drills)
        clients = [
            asyncio.create_task(drill.run(http, drill.tenants[number % len(drill.tenants)], stop))
            for drill in drills
            for number in range(CLIENTS)
        ]

        async def end() -> None:
            stop.set()
            await asyncio.gather(*clients, return_exceptions=True)

        exits.push_async_callback(end)

        async def answered() -> bool:
            _raise_failures(clients)
            return all(sum(not one.code for one in drill.answers) >= 10 for drill in drills)

        await wait_for("all models answer", 60, answered)
        yield drills
        _raise_failures(clients)


async def wait_until_served(http: httpx.AsyncClient, drills: Sequence[Drill]) -> None:
    """Wait until both orchestrators know the models: so many answers in a row come from both."""
    in_a_row = 0
    async with asyncio.timeout(60):
        while in_a_row < 8:
            for drill in drills:
                tenant = drill.tenants[0]
                headers = {"authorization": f"Bearer {tenant.key}"}
                body = chat_body(drill.model, tenant.id, tenant.number(), stream=False)
                answer = await http.post("/v1/chat/completions", json=body, headers=headers)
                in_a_row = in_a_row + 1 if answer.status_code == 200 else 0


def _raise_failures(clients: Sequence[asyncio.Task[None]]) -> None:
    for client in clients:
        if client.done():
            client.result()
