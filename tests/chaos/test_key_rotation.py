"""The keys that wrap credentials are rotated under load, as docs/upstreams.md says: no request fails."""

import asyncio
import secrets
import signal
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
from tests.chaos.own_gateway import own_gateway
from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet, add_route, created
from tests.fleet.control import provision_drill_topics
from tests.fleet.environment import DRILL_ORCHESTRATORS, DRILL_POOL, DRILL_WORKERS, harness_ports
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


@dataclass
class Stack:
    """Two orchestrators and two workers whose keys the drill changes, and a gateway that calls them."""

    orchestrators: list[OwnProcess]
    workers: list[OwnProcess]
    base_url: str

    async def restart(self, processes: list[OwnProcess], setting: str, *keys: str) -> None:
        """Restart the processes in turn with these keys, each when the one before is ready."""
        for process in processes:
            process.environment[setting] = ",".join(keys)
            starts = process.starts
            process.send(signal.SIGTERM)

            async def is_back(process: OwnProcess = process, starts: int = starts) -> bool:
                return process.starts > starts and bool(process.pid)

            await wait_for(f"{process.name} is ready again", 60, is_back)

    async def reseal(self) -> str:
        """Run the command with the settings of an orchestrator."""
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator", "reseal"),
            env=self.orchestrators[0].environment,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await done.communicate()
        assert done.returncode == 0
        return printed.decode()


@asynccontextmanager
async def own_stack(fleet: Fleet) -> AsyncIterator[Stack]:
    """Run the stack; the block begins when all of it is ready."""
    await asyncio.to_thread(provision_drill_topics)
    ports = harness_ports()

    def addresses(names: tuple[str, ...]) -> str:
        return ",".join(f"127.0.0.1:{ports[f'{name}-grpc']}" for name in names)

    def own(name: str, service: str, module: str, changed: dict[str, str]) -> OwnProcess:
        prefix = module.upper()
        inherited = psutil.Process(fleet.pid_of(service)).environ()
        own_ports = {
            f"{prefix}_GRPC__BIND": f"127.0.0.1:{ports[f'{name}-grpc']}",
            f"{prefix}_OPS__PORT": str(ports[f"{name}-ops"]),
        }
        return OwnProcess(name, module, inherited | own_ports | changed, ports[f"{name}-ops"])

    names = DRILL_WORKERS[:2]
    peers = {"ORCHESTRATOR_PEERS__INFERENCE_WORKER": addresses(names)}
    pool = {
        "INFERENCE_WORKER_JOBS__POOL": DRILL_POOL,
        "INFERENCE_WORKER_PEERS__ORCHESTRATOR": addresses(DRILL_ORCHESTRATORS),
    }
    orchestrators = [own(name, "orchestrator", "orchestrator", peers) for name in DRILL_ORCHESTRATORS]
    workers = [own(name, "inference-worker", "inference_worker", pool) for name in names]
    settings = {"GATEWAY_PEERS__ORCHESTRATOR": addresses(DRILL_ORCHESTRATORS)}
    async with running([*orchestrators, *workers]), own_gateway(fleet, settings, "drill-gateway") as gateway:
        yield Stack(orchestrators, workers, gateway.base_url)


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


async def test_no_request_fails_while_the_keys_of_credentials_are_rotated(fleet: Fleet) -> None:
    old, new = psutil.Process(fleet.pid_of("orchestrator")).environ()[WRAPPING], secrets.token_hex(48)
    async with UpstreamSimulator() as provider:
        model = await declare_upstream(fleet, provider)
        async with own_stack(fleet) as stack, under_load(fleet, stack, model) as load:
            await asyncio.sleep(1)
            for setting, processes in ((WRAPPING, stack.orchestrators), (OPENING, stack.workers)):
                await stack.restart(processes, setting, old, new)
            await stack.restart(stack.orchestrators, WRAPPING, new, old)
            try:
                printed = await stack.reseal()
                for setting, processes in ((WRAPPING, stack.orchestrators), (OPENING, stack.workers)):
                    await stack.restart(processes, setting, new)
                before = provider.received
                await wait_for("the provider is called with the new key alone", 30, lambda: _more(provider, before))
            finally:
                # The fleet's own processes have the old key alone.
                stack.orchestrators[0].environment[WRAPPING] = f"{old},{new}"
                await stack.reseal()
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
