"""One client breaks every rule of connections: good clients beside it notice nothing, and the memory returns."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from time import perf_counter

import httpx
import psutil
import pytest

from tests.chaos.hostile_clients import CONNECTIONS, LONG_URLS
from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_gateway import OwnGateway, own_gateway
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

GOOD_CLIENTS, PAUSE_SECONDS = 4, 0.05
SETTLE_SECONDS = 5
MAX_GROWTH = 1.5
"""Measured: 1.0 to 1.3 on machines busy and idle. Without the limits the gateway grew fivefold."""
OPEN_AFTER_SWEEPS = 300
"""Of 750 connections of a kind, the last were opened when the attack ended, within the time limits."""


@dataclass(frozen=True, slots=True)
class Attack:
    """How long an attack takes: longer than the gateway lets a client be late."""

    seconds: float
    quiet_seconds: float
    settings: dict[str, str]
    """Of the attacked gateway."""


SHORT = Attack(12, 5, {"GATEWAY_HTTP__HEAD_TIMEOUT": "4", "GATEWAY_HTTP__BODY_TIMEOUT": "6"})
LONG = Attack(40, 12, {})


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Attack:
    return LONG if request.config.getoption("--long", default=False) else SHORT


class GoodClients:
    """Sends requests as customers do, and records the time of each."""

    def __init__(self, fleet: Fleet, gateway: OwnGateway) -> None:
        self._fleet = fleet
        self._gateway = gateway
        self.failed: Counter[str] = Counter()
        self.not_ready: Counter[str] = Counter()

    async def run(self, seconds: float) -> float:
        """Return the 99th percentile in seconds."""
        times: list[float] = []
        end = perf_counter() + seconds
        await asyncio.gather(*(self._client(end, times) for _ in range(GOOD_CLIENTS)), self._probe(end))
        times.sort()
        return times[int(len(times) * 0.99)]

    async def _client(self, end: float, times: list[float]) -> None:
        headers = self._fleet.as_tenant
        async with httpx.AsyncClient(base_url=self._gateway.base_url, headers=headers, timeout=20) as http:
            while perf_counter() < end:
                body = {"model": "sim-good", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello."}]}
                began = perf_counter()
                try:
                    answer = await http.post("/v1/chat/completions", json=body)
                    if answer.status_code != 200:
                        self.failed[answer.text[:200]] += 1
                except httpx.TransportError as error:
                    self.failed[type(error).__name__] += 1
                times.append(perf_counter() - began)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _probe(self, end: float) -> None:
        """As an orchestrator of containers does: a new connection for each probe."""
        while perf_counter() < end:
            async with httpx.AsyncClient(timeout=5) as http:
                ready = await http.get(self._gateway.ready_url)
            if ready.status_code != 200:
                self.not_ready[ready.text] += 1
            await asyncio.sleep(0.5)


async def restarted(fleet: Fleet, *services: str) -> None:
    """Replace processes; their supervisor starts them again."""
    pids = {service: fleet.pid_of(service) for service in services}
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)

    async def ready() -> bool:
        async with httpx.AsyncClient(timeout=2) as http:
            for service, pid in pids.items():
                if fleet.pid_of(service) in {0, pid}:
                    return False
                try:
                    answer = await http.get(f"http://127.0.0.1:{fleet.ports[f'{service}-ops']}/readyz")
                except httpx.TransportError:
                    return False
                if answer.status_code != 200:
                    return False
        return True

    await wait_for("the services are ready again", 60, ready)


async def test_good_clients_do_not_notice_a_hostile_one(fleet: Fleet, attack: Attack) -> None:
    # Processes that were just started: the memory that earlier tests left must not hide what the attack leaves.
    await restarted(fleet, "retrieval")
    await fleet.add_model("sim-good", upstream_model="instant")
    async with own_gateway(fleet, attack.settings, "attacked-gateway") as gateway:
        await attack_beside_good_clients(fleet, gateway, attack)


def memory_of(fleet: Fleet, gateway: OwnGateway) -> dict[str, int]:
    """Resident bytes by service."""
    own = psutil.Process(gateway.pid).memory_info().rss
    return {"gateway": own} | {service: fleet.memory_of(service) for service in ("retrieval", "orchestrator")}


async def attack_beside_good_clients(fleet: Fleet, gateway: OwnGateway, attack: Attack) -> None:
    good = GoodClients(fleet, gateway)
    await good.run(3)
    quiet = await good.run(attack.quiet_seconds)
    before = memory_of(fleet, gateway)

    port = str(httpx.URL(gateway.base_url).port)
    arguments = ("-m", "tests.chaos.hostile_clients", port, fleet.api_key, str(attack.seconds))
    hostile = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    attacked = await good.run(attack.seconds)
    peak = memory_of(fleet, gateway)
    printed, _ = await hostile.communicate()
    outcome = json.loads(printed)
    await good.run(SETTLE_SECONDS)
    after = memory_of(fleet, gateway)

    # Times depend on the machine, so none of them is demanded.
    print(f"  good clients: p99 {quiet * 1000:.0f} ms quiet, {attacked * 1000:.0f} ms beside the attack")
    report(before, peak, after, outcome)
    # A probe without an answer fails the test. On a busy machine a check of a store may be late for one probe.
    print(f"  probes that found it not ready: {dict(good.not_ready)}")
    assert good.failed == {}
    judge(outcome)
    grown = {service: after[service] / before[service] for service in before}
    assert {service: growth for service, growth in grown.items() if growth > MAX_GROWTH} == {}


def report(before: dict[str, int], peak: dict[str, int], after: dict[str, int], outcome: dict[str, int]) -> None:
    print("  memory in MB       before    peak   after  after / before")
    for service, size in before.items():
        sizes = " ".join(f"{value / 1e6:7.0f}" for value in (size, peak[service], after[service]))
        print(f"  {service:16} {sizes}  {after[service] / size:14.2f}")
    print("  hostile connections: " + ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.items())))


def judge(outcome: dict[str, int]) -> None:
    """Every hostile connection ended in the way that its fault demands: its status, or silently before a request."""
    endings = {
        "silent": {"closed", "open"},
        "half-head": {"408", "open"},
        "drip": {"408", "open"},
        "half-body": {"408", "open"},
        "long-url": {"414"},
    }
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in endings}
    for name, count in outcome.items():
        kind, _, ending = name.partition(": ")
        if kind in seen:
            seen[kind][ending] += count
    assert {kind: set(counts) - endings[kind] for kind, counts in seen.items() if set(counts) - endings[kind]} == {}
    assert seen["long-url"].total() == LONG_URLS
    for kind in ("silent", "half-head", "drip", "half-body"):
        assert seen[kind].total() == CONNECTIONS // 4
        assert seen[kind]["open"] < OPEN_AFTER_SWEEPS, kind
