"""One client breaks every rule of connections: good clients beside it notice nothing, and the memory returns."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from time import perf_counter

import httpx
import pytest

from tests.chaos.ledger_checks import wait_for
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

GOOD_CLIENTS, PAUSE_SECONDS = 4, 0.05
QUIET_SECONDS, ATTACK_SECONDS = 12, 40
# Of a machine that does other things too: at 20 requests a second p99 is one of the slowest five.
NOISE_SECONDS = 0.02
MAX_GROWTH = 1.3


class GoodClients:
    """Sends requests as customers do, and records the time of each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.failed: Counter[str] = Counter()
        self.not_ready = 0

    async def run(self, seconds: float) -> float:
        """Return the 99th percentile in seconds."""
        times: list[float] = []
        end = perf_counter() + seconds
        await asyncio.gather(*(self._client(end, times) for _ in range(GOOD_CLIENTS)), self._probe(end))
        times.sort()
        return times[int(len(times) * 0.99)]

    async def _client(self, end: float, times: list[float]) -> None:
        fleet = self._fleet
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=20) as http:
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
                ready = await http.get(f"http://127.0.0.1:{self._fleet.ports['gateway-ops']}/readyz")
            self.not_ready += ready.status_code != 200
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


async def test_good_clients_do_not_notice_a_hostile_one(fleet: Fleet) -> None:
    # Services that were just started: the memory that earlier tests left must not hide what the attack leaves.
    await restarted(fleet, "gateway", "retrieval")
    await fleet.add_model("sim-good", upstream_model="instant")
    good = GoodClients(fleet)
    await good.run(3)
    services = ("gateway", "retrieval", "orchestrator")
    quiet = await good.run(QUIET_SECONDS)
    before = {service: fleet.memory_of(service) for service in services}

    port = str(httpx.URL(fleet.base_url).port)
    arguments = ("-m", "tests.chaos.hostile_clients", port, fleet.api_key, str(ATTACK_SECONDS))
    hostile = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    attacked = await good.run(ATTACK_SECONDS)
    peak = {service: fleet.memory_of(service) for service in services}
    printed, _ = await hostile.communicate()
    outcome = json.loads(printed)
    await good.run(5)
    after = {service: fleet.memory_of(service) for service in services}

    figures = f"p99 {quiet:.3f} s, attacked {attacked:.3f} s; before {before}, peak {peak}, after {after}; {outcome}"
    print(figures)
    assert not good.failed, figures
    assert good.not_ready == 0
    for ended in ("silent", "half-head", "drip", "half-body"):
        assert outcome.get(f"{ended}: open", 0) < 300, figures
    assert attacked <= 2 * quiet + NOISE_SECONDS, figures
    assert all(after[service] <= MAX_GROWTH * before[service] for service in services), figures
