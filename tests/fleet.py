"""The fleet that tests run against: a whole one of its own, beside yours.

It has its own state (`.argosy/test`), ports, Postgres, Redis and Kafka, so that tests may kill what they like, and
one upstream more: a simulator that fails on demand. `python -m tests.fleet up` starts it, `down` stops it; tests
start it when it is missing.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from argosy_dev.fleet import state
from argosy_dev.fleet.state import RUNNING
from argosy_dev.fleet.ports import assign
from argosy_dev.fleet.paths import FleetPaths, read_pairs, write_text

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".argosy" / "test"
SIMULATOR = ROOT / "tests/simulators/upstream.py"
# Tests do not wait as long as production does.
HASTE = {
    "GATEWAY_LIMITS__DEADLINE": "20",
    "ORCHESTRATOR_TIMES__FIRST_BYTE": "8",
    "ORCHESTRATOR_TIMES__WHOLE_ANSWER": "8",
    "ORCHESTRATOR_TIMES__LEASE": "3",
    "ORCHESTRATOR_TIMES__ROUTES_REFRESH": "0.5",
    "METERING_PRICES_TTL": "0.5",
    "METERING_SWEEPER__PERIOD": "1",
}
# Two processes of these may run; the second of each starts when a test asks for it.
REPLICAS = "orchestrator=2,inference-worker=2,metering=2"
FIRST = ("keys", "model", "gateway", "orchestrator", "inference-worker", "metering", "retrieval")
SECOND = ("orchestrator-2", "inference-worker-2", "metering-2")
LOOKS = 4
"""A model that is listed so often in a row is known to every replica: they take turns."""
PREFIXES = ("GATEWAY", "ORCHESTRATOR", "INFERENCE_WORKER", "METERING", "RETRIEVAL")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where the test fleet is and what it takes to speak to it."""

    base_url: str
    api_key: str
    admin_key: str
    postgres_dsn: str
    principal_secret: str
    ports: dict[str, int]
    simulator_port: int
    otlp_port: int

    @property
    def as_tenant(self) -> dict[str, str]:
        """Headers of the tenant `demo`."""
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def as_admin(self) -> dict[str, str]:
        """Headers of the administrator."""
        return {"authorization": f"Bearer {self.admin_key}"}

    def grpc_target(self, service: str) -> str:
        """Where a service answers gRPC."""
        return f"127.0.0.1:{self.ports[f'{service}-grpc']}"

    def log_of(self, part: str) -> str:
        """Everything a part has printed."""
        return (STATE / "logs" / f"{part}.log").read_text()

    @staticmethod
    def pid_of(part: str) -> int:
        """The process of a part now; 0 while it has none."""
        entry = state.read(FleetPaths(root=STATE, assets=STATE)).entries.get(part)
        return entry.process.pid if entry and entry.process and entry.state in RUNNING else 0

    @staticmethod
    def replicas_of(service: str) -> list[str]:
        """The parts that run a service now; the first of them bears its name."""
        return [part for part in (service, f"{service}-2") if Fleet.pid_of(part)]

    def memory_of(self, part: str) -> int:
        """Resident bytes of a part now."""
        return int(psutil.Process(self.pid_of(part)).memory_info().rss)

    @staticmethod
    def unique(name: str) -> str:
        """A name nobody has used."""
        return f"{name}-{secrets.token_hex(4)}"

    @asynccontextmanager
    async def stranger(self, cap_usd: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of a new tenant, with a budget when one is named."""
        async with httpx.AsyncClient(base_url=self.base_url, headers=self.as_admin, timeout=30) as admin:
            tenant = created(await admin.post("/admin/v1/tenants", json={"name": self.unique("stranger")}))["id"]
            project = created(await admin.post("/admin/v1/projects", json={"tenant_id": tenant, "name": "default"}))[
                "id"
            ]
            key = created(
                await admin.post("/admin/v1/keys", json={"tenant_id": tenant, "project_id": project, "name": "test"})
            )["key"]
            if cap_usd is not None:
                created(await admin.put(f"/admin/v1/tenants/{tenant}/budget", json={"cap_usd": cap_usd}))
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=60) as client:
            yield client

    async def offer(
        self,
        name: str,
        *,
        model: str,
        then: str | None = None,
        priced: bool = True,
        input_per_million: int = 1_000_000_000,
        output_per_million: int = 2_000_000_000,
    ) -> None:
        """Put a public model in front of the simulator's `model`, and `then` as fallback; prices in nano-USD."""
        candidates = [model, *([then] if then else [])]
        if priced:
            async with httpx.AsyncClient(base_url=self.base_url, headers=self.as_admin, timeout=30) as admin:
                for candidate in candidates:
                    price = {
                        "price_key": f"simulator/{candidate}",
                        "input_per_million_nano_usd": input_per_million,
                        "output_per_million_nano_usd": output_per_million,
                    }
                    created(await admin.post("/admin/v1/prices", json=price))
        connection = await asyncpg.connect(self.postgres_dsn)
        try:
            await add_route(connection, name, candidates)
        finally:
            await connection.close()
        async with (
            httpx.AsyncClient(base_url=self.base_url, headers=self.as_tenant, timeout=30) as client,
            asyncio.timeout(30),
        ):
            listed = 0
            while listed < LOOKS:
                there = name in [m["id"] for m in (await client.get("/v1/models")).json()["data"]]
                listed = listed + 1 if there else 0
                await asyncio.sleep(0 if there else 0.2)

    @staticmethod
    async def account_of(http: httpx.AsyncClient, request_id: str) -> dict[str, Any]:
        """The account of a request, once it is settled."""
        async with asyncio.timeout(30):
            while True:
                answer = await http.get(f"/v1/requests/{request_id}")
                assert answer.status_code == 200, answer.text
                account: dict[str, Any] = answer.json()
                if account["settlements"]:
                    return account
                await asyncio.sleep(0.2)

    @staticmethod
    async def console_consumer(topic: str) -> bytes:
        """Everything on a topic, read with Kafka's own console consumer."""
        arguments = ("kafka-console-consumer", "--topic", topic, "--from-beginning", "--timeout-ms", "8000")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "argosy_dev",
            *arguments,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return out


def created(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer that must be good."""
    assert answer.status_code in {200, 201}, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def add_route(connection: asyncpg.Connection, name: str, models: list[str]) -> None:
    """Write a route for all tenants that tries these models of the simulator in order."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('argosy.tenant', '*', true)")
        await connection.execute("DELETE FROM orchestration.routes WHERE tenant_id = '*' AND model = $1", name)
        await connection.execute(
            "INSERT INTO orchestration.routes (tenant_id, model, task) VALUES ('*', $1, 'chat')", name
        )
        await connection.executemany(
            "INSERT INTO orchestration.route_candidates "
            "(tenant_id, model, position, upstream, upstream_model, max_output_tokens) "
            "VALUES ('*', $1, $2, 'simulator', $3, 4096)",
            [(name, position, model) for position, model in enumerate(models)],
        )


def harness() -> dict[str, int]:
    """The ports of what tests run beside the fleet; chosen once."""
    path = STATE / "harness.json"
    if not path.exists():
        STATE.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(assign(["simulator", "otlp"], {})))
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


def environment() -> dict[str, str]:
    """What makes a fleet the test fleet."""
    ports = harness()
    simulator = {
        "simulator": {"kind": "openai", "base_url": f"http://127.0.0.1:{ports['simulator']}/v1", "api_key": "sim"}
    }
    mine = {k: v for k, v in os.environ.items() if not k.startswith("ARGOSY_")}
    telling = {
        "ARGOSY_OTLP_ENDPOINT": f"http://127.0.0.1:{ports['otlp']}",
        **{f"{prefix}_TELEMETRY__LOG_LEVEL": "debug" for prefix in PREFIXES},
    }
    fleet = {"ARGOSY_HOME": str(STATE), "ARGOSY_UPSTREAMS": json.dumps(simulator), "ARGOSY_REPLICAS": REPLICAS}
    # At 500 requests a second every line and every trace of them would be the load.
    return mine | HASTE | fleet | ({} if mine.get("TESTS_TELL_LITTLE") else telling)


def control(*arguments: str) -> None:
    """Run a command of the dev fleet on the test fleet."""
    subprocess.run([sys.executable, "-m", "argosy_dev", *arguments], env=environment(), check=True, timeout=300)


def start(parts: tuple[str, ...] = FIRST) -> None:
    """Start parts of the test fleet that do not run, with what they need."""
    control("up", "--only", ",".join(parts))


def attach() -> Fleet:
    """Start the test fleet if it is not there, and say where it is."""
    start()
    home = FleetPaths(root=STATE, assets=ROOT / ".argosy")
    env, ports = read_pairs(home.env), harness()
    return Fleet(
        base_url=env["ARGOSY_BASE_URL"],
        api_key=env["ARGOSY_API_KEY"],
        admin_key=env["ARGOSY_ADMIN_KEY"],
        postgres_dsn=env["ARGOSY_POSTGRES_DSN"],
        principal_secret=read_pairs(home.secrets)["principal"],
        ports={name: int(port) for name, port in read_pairs(home.ports).items()},
        simulator_port=ports["simulator"],
        otlp_port=ports["otlp"],
    )


def simulate() -> subprocess.Popen[bytes]:
    """Start the simulator of upstreams; the caller ends it."""
    port = harness()["simulator"]
    process = subprocess.Popen([sys.executable, str(SIMULATOR), "--port", str(port)])
    for _ in range(100):
        try:
            httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=1)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    process.kill()
    raise TimeoutError("the simulator does not answer")


if __name__ == "__main__":
    if sys.argv[1:] == ["up"]:
        start()
    else:
        control(*sys.argv[1:])
