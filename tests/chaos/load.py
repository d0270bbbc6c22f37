"""A steady load that remembers what became of every request."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.fleet import Fleet

WORKERS, PAUSE_SECONDS = 6, 0.05


@dataclass(slots=True)
class Load:
    """What clients saw."""

    answered: dict[str, int] = field(default_factory=dict)
    """Request ids of whole answers, with the cost that each client was told, in nano-USD."""
    typed: Counter[str] = field(default_factory=Counter)
    """How often each error code was met, before or after the first byte."""
    cut: int = 0
    """Connections that broke: only the death of the gateway itself may do that."""
    untyped: list[str] = field(default_factory=list)
    """What no client can make sense of."""

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
            self.cut += 1
            return
        self.hear(answer.status_code, answer.headers, answer.text, streamed=number % 2 == 0)

    def hear(self, status: int, headers: Mapping[str, str], text: str, *, streamed: bool) -> bool:
        """Remember an answer; say whether it was whole."""
        answered = len(self.answered)
        if status != 200:
            self._refused(text)
        elif streamed:
            self._streamed(headers["x-request-id"], text)
        else:
            self._whole(headers["x-request-id"], headers["argosy-cost"])
        return len(self.answered) > answered

    def _refused(self, text: str) -> None:
        try:
            self.typed[json.loads(text)["error"]["code"]] += 1
        except (ValueError, KeyError, TypeError):
            self.untyped.append(text[:300])

    def _streamed(self, request_id: str, text: str) -> None:
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        if events and events[-1] == "[DONE]":
            self._whole(request_id, json.loads(events[-2])["argosy"]["cost_usd"])
        else:
            self._refused(events[-1] if events else text)

    def _whole(self, request_id: str, cost_usd: str) -> None:
        whole, _, fraction = cost_usd.partition(".")
        self.answered[request_id] = int(whole) * 10**9 + int(fraction.ljust(9, "0"))


@asynccontextmanager
async def steady_load(fleet: Fleet) -> AsyncIterator[Load]:
    """Clients that ask all the time while the block runs; each ends its last request."""
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
