"""The journaled provider as a process, its models, and both sides of a comparison: its journal, metering's tables."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
from values.money import ClassPrices

from tests.chaos.pairing import Bound, Call, Request, Settlement
from tests.fleet.client import Fleet, add_route, created
from tests.fleet.environment import PATHS, ROOT, harness_ports

UPSTREAM = "journaled"
AUDIO, REASONING = map(ClassPrices._fields.index, ("audio_input", "reasoning_output"))
PROGRAM = ROOT / "tests/simulators/journaled.py"
FIRST_REQUEST = 64
"""Numbers of requests start here: a request's number is its `max_tokens` too, which tells its reservation.

An embedding has no output; there the number is the bound of the input.
"""
INPUT_OVERHEAD = 8
"""The bound of an embedding has so many tokens more than its text has bytes."""


class Begun(NamedTuple):
    """The begin of a call."""

    at: float
    """Seconds since 1970."""
    request: int
    """The tenant's own number of the request."""
    model: str
    key: str
    """The credential that it came with."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The file in which the provider writes."""

    path: Path

    def calls(self, tenants: Iterable[str]) -> list[Call]:
        """All calls of these tenants, in the order in which they began."""
        begun: dict[int, dict[str, object]] = {}
        for line in self.path.read_text().splitlines():
            entry = json.loads(line)
            begun.setdefault(entry["call"], {}).update(entry)
        wanted = set(tenants)
        return [call for call in map(_entry_to_call, begun.values()) if call.tenant in wanted]

    @property
    def poison(self) -> Path:
        """The ports from which poisonous calls came, one a line; it may not exist yet."""
        return self.path.with_suffix(".poison")

    def switch(self, name: str, mode: str, who: str = "") -> None:
        """From now on calls of the model `switched?name=…` are answered so, of one tenant or credential, or of all."""
        path = self.path.with_suffix(".switch")
        modes = json.loads(path.read_text()) if path.exists() else {}
        new = path.with_suffix(".new")
        new.write_text(json.dumps(modes | {f"{name} {who}".strip(): mode}))
        new.replace(path)

    def begun(self, tenants: Iterable[str]) -> list[Begun]:
        """The begin of each call of these tenants, in order."""
        wanted = {call.number for call in self.calls(tenants)}
        entries = map(json.loads, self.path.read_text().splitlines())
        begun = (one for one in entries if one["event"] == "begin" and one["call"] in wanted)
        return [Begun(one["at"], int(one["prompt"].split()[1]), one["model"], one.get("key", "")) for one in begun]

    def left_at(self, tenant: str) -> dict[int, float]:
        """When the caller of each request of a tenant left its call, in seconds since 1970."""
        requests = {call.number: call.request for call in self.calls([tenant])}
        entries = [json.loads(line) for line in self.path.read_text().splitlines()]
        return {
            requests[entry["call"]]: entry["at"]
            for entry in entries
            if entry["event"] == "end" and entry["call"] in requests and entry["how"] == "left"
        }

    def began(self, tenant: str, request: int) -> bool:
        """Whether the provider has received a call of a request."""
        return any(call.request == request for call in self.calls([tenant]))


def _entry_to_call(entry: Mapping[str, object]) -> Call:
    tenant, _, request = str(entry["prompt"]).partition(" ")
    return Call(
        number=int(str(entry["call"])),
        tenant=tenant,
        request=int(request.split()[0]),
        price_key=f"{entry.get('upstream') or UPSTREAM}/{entry['model']}",
        stream=bool(entry["stream"]),
        prompt_tokens=int(str(entry["prompt_tokens"])),
        completion_tokens=int(str(entry["completion_tokens"])),
        end=str(entry.get("how", "running")),
        usage_sent=bool(entry.get("usage_sent")),
    )


def chat_body(model: str, tenant: str, request: int, *, stream: bool) -> dict[str, object]:
    """A request that the journal and the reservation can be recognized by: its tenant and number."""
    messages = [{"role": "user", "content": f"{tenant} {request}"}]
    return {"model": model, "max_tokens": request, "stream": stream, "messages": messages}


def embedding_body(model: str, tenant: str, request: int) -> dict[str, object]:
    """The same for embeddings: the length of the text is the number of the request."""
    return {"model": model, "input": f"{tenant} {request} ".ljust(request - INPUT_OVERHEAD, "x")}


@asynccontextmanager
async def journaled_provider(path: Path) -> AsyncIterator[Journal]:
    """Run the provider, in a process of its own, with a new journal."""
    port = harness_ports()[UPSTREAM]
    arguments = [str(PROGRAM), "--port", str(port), "--journal", str(path)]
    with PATHS.log(UPSTREAM).open("ab") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            while not await _answers(http, port):
                assert process.returncode is None, f"the journaled provider ended; see {PATHS.log(UPSTREAM)}"
                await asyncio.sleep(0.1)
        yield Journal(path)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await http.get(f"http://127.0.0.1:{port}/simulator")).status_code == 200
    except httpx.TransportError:
        return False


async def add_models(
    fleet: Fleet,
    routes: Mapping[str, Sequence[str]],
    prices: Mapping[str, tuple[int, int]],
    task: str = "chat",
    *,
    by_class: bool = False,
) -> None:
    """Route public models to models of the provider, at prices in nano-USD per million tokens (input, output).

    `by_class` gives sound and reasoning, of which the provider reports some, prices of their own.
    """
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        for model, (input_price, output_price) in prices.items():
            price: dict[str, Any] = {
                "price_key": f"{UPSTREAM}/{model}",
                "input_per_million_nano_usd": input_price,
                "output_per_million_nano_usd": output_price,
            }
            if by_class:
                # Odd; sound is no dearer than text, because nothing is held for it where a request has none.
                sound, thoughts = input_price - input_price // 7, output_price + output_price // 3
                price["classes_per_million_nano_usd"] = {"audio_input": sound, "reasoning_output": thoughts}
            created(await admin.post("/admin/v1/prices", json=price))
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        for name, candidates in routes.items():
            await add_route(connection, name, list(candidates), UPSTREAM, task)
    finally:
        await connection.close()
    for name in routes:
        await fleet.wait_until_listed(name)


async def count_held(fleet: Fleet, tenant: str) -> int:
    """How many requests of a tenant hold money now."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        held: int = await connection.fetchval(
            "SELECT count(*) FROM metering.reservations WHERE tenant_id = $1 AND state = 'held'", tenant
        )
    finally:
        await connection.close()
    return held


async def read_requests(fleet: Fleet, tenants: Iterable[str]) -> dict[tuple[str, int], Request]:
    """Every reservation of these tenants with its settlements, by tenant and number."""
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        rows = await connection.fetch(
            "SELECT tenant_id, request_id, bounds, (SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY attempt), '[]') "
            "FROM metering.settlements s WHERE s.tenant_id = r.tenant_id AND s.request_id = r.request_id) AS settled "
            "FROM metering.reservations r WHERE tenant_id = ANY($1) AND bounds <> '[]'",
            list(tenants),
        )
    finally:
        await connection.close()
    requests = {}
    for row in rows:
        bounds = tuple(
            Bound(
                bound["price_key"],
                bound["input_tokens"],
                bound["output_tokens"],
                bound["input_per_million"],
                bound["output_per_million"],
                *(bound["classes"][place] for place in (AUDIO, REASONING) if "classes" in bound),
            )
            for bound in json.loads(row["bounds"])
        )
        settlements = tuple(
            Settlement(
                settled["attempt"],
                settled["outcome"],
                settled["usage_source"],
                (settled["input_tokens"], settled["output_tokens"]),
                settled["price_key"],
                settled["cost"],
                settled["exposed"],
            )
            for settled in json.loads(row["settled"])
        )
        requests[row["tenant_id"], bounds[0].output_tokens or bounds[0].input_tokens] = Request(
            row["request_id"], bounds, settlements
        )
    return requests
