"""A steady load that records the result of every request."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.fleet.client import Fleet

WORKERS, PAUSE_SECONDS = 6, 0.05


@dataclass(slots=True)
class Load:
    """The results, as clients see them."""

    completed: dict[str, int] = field(default_factory=dict)
    """Request ids of complete responses, with the cost in the response, in nano-USD."""
    typed: Counter[str] = field(default_factory=Counter)
    """Error codes with their counts, before or after the first byte."""
    disconnected: int = 0
    """Lost connections; only a kill of the gateway may cause them."""
    untyped: list[str] = field(default_factory=list)
    """Responses that are no valid error."""

    async def one(self, http: httpx.AsyncClient, number: int) -> None:
        """Make one request, every second one streamed."""
        body = {
            "model": "sim-chaos",
            "max_tokens": 32,
            "stream": number % 2 == 0,
            "messages": [{"role": "user", "content": f"n {number}"}],
        }
        try:
            answer = await http.post("/v1/chat/completions", json=body)
        except httpx.TransportError:
            self.disconnected += 1
            return
        self.record(answer.status_code, answer.headers, answer.text, streamed=number % 2 == 0)

    def record(self, status: int, headers: Mapping[str, str], text: str, *, streamed: bool) -> bool:
        """Record a response; return whether it was complete."""
        completed = len(self.completed)
        if status != 200:
            self._failed(text)
        elif streamed:
            self._streamed(headers["x-request-id"], text)
        else:
            self._complete(headers["x-request-id"], headers["argosy-cost"])
        return len(self.completed) > completed

    def _failed(self, text: str) -> None:
        try:
            self.typed[json.loads(text)["error"]["code"]] += 1
        except (ValueError, KeyError, TypeError):
            self.untyped.append(text[:300])

    def _streamed(self, request_id: str, text: str) -> None:
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        if events and events[-1] == "[DONE]":
            self._complete(request_id, json.loads(events[-2])["argosy"]["cost_usd"])
        else:
            self._failed(events[-1] if events else text)

    def _complete(self, request_id: str, cost_usd: str) -> None:
        dollars, _, fraction = cost_usd.partition(".")
        self.completed[request_id] = int(dollars) * 10**9 + int(fraction.ljust(9, "0"))


@asynccontextmanager
async def steady_load(fleet: Fleet) -> AsyncIterator[Load]:
    """Run clients that send requests until the block ends; each completes its last request."""
    load, stop, numbers = Load(), asyncio.Event(), iter(range(10**9))

    async def client() -> None:
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as http:
            while not stop.is_set():
                await load.one(http, next(numbers))
                await asyncio.sleep(PAUSE_SECONDS)

    clients = [asyncio.create_task(client()) for _ in range(WORKERS)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*clients)
