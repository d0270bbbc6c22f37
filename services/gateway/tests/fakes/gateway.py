"""The whole HTTP face over fakes, with keys that open it."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from chassis.http import ASGIApp
from chassis.testing import FakeClock, a_signer
from gateway.api.app import Allowances, create_app
from gateway.api.door import Door
from gateway.api.ports import Ports
from gateway.domain.administration import Administration, Bootstrap
from gateway.domain.buckets import Buckets
from gateway.domain.keys import mint_key
from gateway.domain.limits import Limits
from gateway.domain.principals import Admission, Trust
from gateway.domain.rates import Limiter, Rates

from services.gateway.tests.fakes.accounts import FakeAccounts
from services.gateway.tests.fakes.directory import FakeDirectory
from services.gateway.tests.fakes.inference import FakeInference
from services.gateway.tests.fakes.knowledge import FakeKnowledge
from services.gateway.tests.fakes.rates import FakeRateLimits

UNLIMITED = Rates()
CHAT_BYTES, JSON_BYTES, UPLOAD_BYTES = 4096, 2048, 1000


class FakeRevocations:
    """`Revocations` that reach this one gateway."""

    def __init__(self, admission: Admission) -> None:
        self.announced: list[str] = []
        self._admission = admission

    async def announce(self, key_id: str) -> None:
        self.announced.append(key_id)
        self._admission.forget(key_id)


@dataclass
class World:
    """What a test can reach."""

    app: ASGIApp
    clock: FakeClock
    directory: FakeDirectory
    admission: Admission
    revocations: FakeRevocations
    inference: FakeInference
    knowledge: FakeKnowledge
    accounts: FakeAccounts
    rates: FakeRateLimits
    keys: dict[str, str] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def client(self, who: str = "demo") -> AsyncIterator[httpx.AsyncClient]:
        """A client of a tenant; "nobody" has no key."""
        headers = {"authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield client


async def a_world(default: Rates = UNLIMITED) -> World:
    """Make one with the tenants demo, other and platform, two replicas of it, and `default` as everybody's plan."""
    clock, directory = FakeClock(), FakeDirectory()
    admission = Admission(directory, clock, Trust(look_up=timedelta(seconds=20)))
    admission.hear(True)
    revocations = FakeRevocations(admission)
    inference, knowledge, accounts = FakeInference(), FakeKnowledge(), FakeAccounts()
    administration = Administration(directory, revocations, clock, env="test")
    ports = Ports(inference, knowledge, accounts, directory, administration, clock, UPLOAD_BYTES)
    limits = Limits(output_tokens=1_000, messages=5, choices=2)
    allowances = Allowances(CHAT_BYTES, JSON_BYTES, timedelta(minutes=10), limits)
    rates = FakeRateLimits(clock)
    limiter = Limiter({}, default, shared=rates, local=Buckets(clock), replicas=2)
    app = create_app(ports, Door(admission, a_signer(clock)), limiter, allowances)
    world = World(app, clock, directory, admission, revocations, inference, knowledge, accounts, rates)
    for tenant, roles in (("demo", {"member"}), ("other", {"member"}), ("platform", {"admin", "member"})):
        _, world.keys[tenant] = mint_key("test")
        world.tenants[tenant] = (await Bootstrap(directory, clock).ensure(tenant, world.keys[tenant], roles)).tenant_id
    return world


class Visit:
    """One request by hand: the test decides when the client reads, and when it leaves."""

    def __init__(
        self, world: World, path: str, body: bytes, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> None:
        self.sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self._leaving = asyncio.Event()
        self._incoming: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        given = {"authorization": f"Bearer {world.keys['demo']}"} | (headers or {})
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        self.task: asyncio.Task[None] = asyncio.create_task(self._visit(world.app, scope))

    def feed(self, *chunks: bytes, more: bool = True) -> None:
        """Send more of the body; only before the first turn of the loop."""
        self._incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        if not more:
            self._incoming[-1]["more_body"] = False

    def leave(self) -> None:
        """Close the connection."""
        self._leaving.set()

    async def next(self) -> MutableMapping[str, Any]:
        """What the server sends next."""
        async with asyncio.timeout(5):
            return await self.sent.get()

    async def body(self) -> bytes:
        """All that is left of the answer."""
        read = bytearray()
        while True:
            message = await self.next()
            read += message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self.task
                return bytes(read)

    async def _visit(self, app: ASGIApp, scope: MutableMapping[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        await self._leaving.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.reading.wait()
        await self.sent.put(message)


async def turns(count: int = 20) -> None:
    """Let everybody who can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)
