"""The keys that wrap credentials are rotated under load, as docs/upstreams.md says: no request fails."""

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx
import psutil
import pytest

from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_stack import Stack, own_stack
from tests.fleet.client import Fleet, add_route, created
from tests.simulators.upstream import UpstreamSimulator

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

WRAPPING, OPENING = "ORCHESTRATOR_UPSTREAMS__CREDENTIAL_KEYS", "INFERENCE_WORKER_CREDENTIAL_KEYS"
CLIENTS, PAUSE_SECONDS = 4, 0.05
SECRET = "sk-of-the-rotation"
REASON = {"reason": "a drill"}


@dataclass
class Load:
    """The answers that clients got so far."""

    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, http: httpx.AsyncClient, model: str) -> None:
        """Send requests until `stop`, each to its end."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        while not self.stop.is_set():
            answer = await http.post("/v1/chat/completions", json=body)
            self.answers[answer.status_code] += 1
            if answer.status_code != 200:
                self.failures.append(answer.text)
            await asyncio.sleep(PAUSE_SECONDS)


async def reseal(stack: Stack) -> str:
    """Run the command with the settings of an orchestrator."""
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "reseal"),
        env=stack.orchestrators[0].environment,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await done.communicate()
    assert done.returncode == 0
    return printed.decode()


async def declare_upstream(fleet: Fleet, provider: UpstreamSimulator) -> str:
    """Declare an upstream with a credential by the API, and a model at it; return the model's name."""
    name, model = fleet.unique("rotated"), fleet.unique("sim-rotated")
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        upstream = {**REASON, "kind": "openai", "base_url": f"{provider.url}/v1"}
        created(await admin.put(f"/admin/v1/upstreams/{name}", json=upstream))
        credential = {**REASON, "secret": SECRET}
        created(await admin.post(f"/admin/v1/upstreams/{name}/credentials", json=credential))
        price = {"input_per_million_nano_usd": 1_000, "output_per_million_nano_usd": 1_000}
        created(await admin.post("/admin/v1/prices", json={"price_key": f"{name}/instant", **price}))
    connection = await asyncpg.connect(fleet.postgres_dsn)
    await add_route(connection, model, ["instant"], upstream=name)
    await connection.close()
    await fleet.wait_until_listed(model)
    return model


async def rotate(stack: Stack, old: str, new: str) -> str:
    """Rotate the keys under load; return what the command printed."""
    await asyncio.sleep(1)
    both = ((WRAPPING, stack.orchestrators), (OPENING, stack.workers))
    for setting, processes in both:
        await stack.restart(processes, setting, f"{old},{new}")
    await stack.restart(stack.orchestrators, WRAPPING, f"{new},{old}")
    printed = await reseal(stack)
    for setting, processes in both:
        await stack.restart(processes, setting, new)
    return printed


async def test_no_request_fails_while_the_keys_of_credentials_are_rotated(fleet: Fleet) -> None:
    old, new = psutil.Process(fleet.pid_of("orchestrator")).environ()[WRAPPING], secrets.token_hex(48)
    async with UpstreamSimulator() as provider:
        model = await declare_upstream(fleet, provider)
        async with own_stack(fleet) as stack:
            try:
                async with under_load(fleet, stack, model) as load:
                    printed = await rotate(stack, old, new)
                    before = provider.received
                    await wait_for("the provider is called with the new key alone", 30, lambda: _more(provider, before))
            finally:
                # The fleet's own processes have the old key alone. The stack's workers cannot open what this wraps, so
                # it comes after their last request.
                stack.orchestrators[0].environment[WRAPPING] = f"{old},{new}"
                await reseal(stack)
        keys = Counter(request.headers["authorization"] for request in provider.requests)

    print(f"{sum(load.answers.values())} requests during two restarts of everything: {dict(load.answers)}; {printed}")
    assert "wrapped 0" not in printed
    assert load.failures == []
    assert set(load.answers) == {200}
    assert set(keys) == {f"Bearer {SECRET}"}


async def _more(provider: UpstreamSimulator, before: int) -> bool:
    return provider.received >= before + 20


@asynccontextmanager
async def under_load(fleet: Fleet, stack: Stack, model: str) -> AsyncIterator[Load]:
    """Let clients send requests until the block ends."""
    load = Load()
    async with httpx.AsyncClient(base_url=stack.base_url, headers=fleet.as_tenant, timeout=30) as http:
        clients = [asyncio.create_task(load.run(http, model)) for _ in range(CLIENTS)]
        try:
            yield load
        finally:
            load.stop.set()
            await asyncio.gather(*clients)
