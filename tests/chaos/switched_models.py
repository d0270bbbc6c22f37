"""Clients of models whose provider can be switched while they call; each model has a tenant of its own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
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

    began: float
    ended: float
    code: str
    """Empty for a complete answer."""


@dataclass(slots=True)
class Drill:
    """The requests for one model of the provider."""

    fault: str
    switch: str
    model: str
    tenant: Tenant
    answers: list[Answer] = field(default_factory=list)

    async def run(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """Send requests until `stop`, each to its end, every second one streamed."""
        headers = {"authorization": f"Bearer {self.tenant.key}"}
        while not stop.is_set():
            number, began = self.tenant.number(), time.time()
            body = chat_body(self.model, self.tenant.id, number, stream=number % 2 == 0)
            answer = await http.post("/v1/chat/completions", json=body, headers=headers)
            self.answers.append(Answer(began, time.time(), _code(answer)))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)

    def answered_since(self, at: float) -> float:
        """When the first complete answer came to a request that began after a time; 0 while none did."""
        return min((one.ended for one in self.answers if one.began >= at and not one.code), default=0.0)


def _code(answer: httpx.Response) -> str:
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
async def under_load(fleet: Fleet, base_url: str, faults: Sequence[str]) -> AsyncIterator[Sequence[Drill]]:
    """Send requests for a model of each fault until the block ends; it begins when all of them are answered."""
    drills = [
        Drill(fault, switch, fleet.unique("sim-breaker"), Tenant(*await fleet.create_tenant()))
        for fault in faults
        for switch in [fleet.unique(fault)]
    ]
    models = {drill.model: f"switched?name={drill.switch}" for drill in drills}
    await add_models(fleet, {name: [model] for name, model in models.items()}, dict.fromkeys(models.values(), PRICE))
    stop, limits = asyncio.Event(), httpx.Limits(max_connections=None)
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits))
        await wait_until_served(http, drills)
        clients = [asyncio.create_task(drill.run(http, stop)) for drill in drills for _ in range(CLIENTS)]

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
                headers = {"authorization": f"Bearer {drill.tenant.key}"}
                body = chat_body(drill.model, drill.tenant.id, drill.tenant.number(), stream=False)
                answer = await http.post("/v1/chat/completions", json=body, headers=headers)
                in_a_row = in_a_row + 1 if answer.status_code == 200 else 0


def _raise_failures(clients: Sequence[asyncio.Task[None]]) -> None:
    for client in clients:
        if client.done():
            client.result()
