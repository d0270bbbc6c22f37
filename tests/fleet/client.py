"""What tests need to use the test fleet: addresses, keys, tenants, models, statements, logs."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaConsumer
from argosy_dev.fleet.paths import read_pairs
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.state import RUNNING, read_state

from tests.fleet.control import start
from tests.fleet.environment import PATHS, environment, harness_ports
from tests.fleet.replicas import wait_until_priced, wait_until_routed


@dataclass(frozen=True, slots=True)
class Fleet:
    """The addresses and keys of the test fleet."""

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
        """The gRPC address of a service."""
        return f"127.0.0.1:{self.ports[f'{service}-grpc']}"

    @staticmethod
    def log_of(part: str) -> str:
        """The whole log of a part."""
        return PATHS.log(part).read_text()

    @staticmethod
    def pid_of(part: str) -> int:
        """The process of a part now; 0 while it has none."""
        state = read_state(PATHS).parts.get(part)
        return state.process.pid if state and state.process and state.status in RUNNING else 0

    @staticmethod
    def replicas_of(service: str) -> list[str]:
        """The running parts of a service; the first has the service's name."""
        return [part for part in (service, f"{service}-2") if Fleet.pid_of(part)]

    def memory_of(self, part: str) -> int:
        """Resident bytes of a part now."""
        return int(psutil.Process(self.pid_of(part)).memory_info().rss)

    @staticmethod
    def unique(name: str) -> str:
        """A name that was never used."""
        return f"{name}-{secrets.token_hex(4)}"

    @asynccontextmanager
    async def new_tenant(self, cap_usd: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of a new tenant, with a budget if `cap_usd` is given."""
        _, key = await self.create_tenant(cap_usd)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=60) as client:
            yield client

    async def create_tenant(self, cap_usd: str | None = None, *, plan: str = "standard") -> tuple[str, str]:
        """Create a tenant, with a budget if `cap_usd` is given; return its id and an API key."""
        async with httpx.AsyncClient(base_url=self.base_url, headers=self.as_admin, timeout=30) as admin:

            async def create(path: str, **body: str) -> dict[str, Any]:
                return created(await admin.post(f"/admin/v1/{path}", json=body))

            tenant = (await create("tenants", name=self.unique("tenant"), plan=plan))["id"]
            project = (await create("projects", tenant_id=tenant, name="default"))["id"]
            key: str = (await create("keys", tenant_id=tenant, project_id=project, name="test"))["key"]
            if cap_usd is not None:
                created(await admin.put(f"/admin/v1/tenants/{tenant}/budget", json={"cap_usd": cap_usd}))
        return str(tenant), key

    async def add_model(
        self,
        name: str,
        *,
        upstream_model: str,
        fallback: str | None = None,
        priced: bool = True,
        input_per_million: int = 1_000_000_000,
        output_per_million: int = 2_000_000_000,
    ) -> None:
        """Route a public model to a model of the simulator, and wait until every replica knows route and price.

        Prices are in nano-USD per million tokens.
        """
        candidates = [upstream_model, *([fallback] if fallback else [])]
        if priced:
            versions: dict[str, str] = {}
            async with httpx.AsyncClient(base_url=self.base_url, headers=self.as_admin, timeout=30) as admin:
                for candidate in candidates:
                    price = {
                        "price_key": f"simulator/{candidate}",
                        "input_per_million_nano_usd": input_per_million,
                        "output_per_million_nano_usd": output_per_million,
                    }
                    versions[str(price["price_key"])] = created(await admin.post("/admin/v1/prices", json=price))["id"]
            await wait_until_priced(self._replica_targets("metering"), self.principal_secret, versions)
        connection = await asyncpg.connect(self.postgres_dsn)
        try:
            await add_route(connection, name, candidates)
        finally:
            await connection.close()
        await self.wait_until_listed(name)

    async def add_reranker(self, name: str) -> None:
        """Route a public name to the model whose score is the words in common, and wait until every replica lists it.

        A million tokens cost a dollar.
        """
        price = {"input_per_million_nano_usd": 1_000_000_000, "output_per_million_nano_usd": 0}
        route = {"reason": "a test", "task": "rerank", "candidates": [{"upstream": "overlap", "model": "overlap"}]}
        async with httpx.AsyncClient(base_url=self.base_url, headers=self.as_admin, timeout=30) as admin:
            created(await admin.post("/admin/v1/prices", json={"price_key": "overlap/overlap", **price}))
            created(await admin.put(f"/admin/v1/routes/{name}", json=route))
        await self.wait_until_listed(name)

    async def wait_until_listed(self, model: str) -> None:
        """Wait until every replica lists a public model."""
        await wait_until_routed(self._replica_targets("orchestrator"), self.principal_secret, model)

    def _replica_targets(self, service: str) -> dict[str, str]:
        return {replica: self.grpc_target(replica) for replica in self.replicas_of(service)}

    @staticmethod
    async def statement_of(http: httpx.AsyncClient, request_id: str) -> dict[str, Any]:
        """The statement of a request, once it is settled; before that, one that reserved nothing is not found."""
        async with asyncio.timeout(30):
            while True:
                response = await http.get(f"/v1/requests/{request_id}")
                if response.status_code != 404:
                    assert response.status_code == 200, response.text
                    statement: dict[str, Any] = response.json()
                    if statement["settlements"]:
                        return statement
                await asyncio.sleep(0.2)

    async def read_topic(self, topic: str) -> bytes:
        """All records of a topic, read with Kafka's own console consumer."""
        count = str(await self._count_records(topic))  # so that it need not wait for a record that does not come
        arguments = ("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", count)
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

    async def _count_records(self, topic: str) -> int:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=f"{LOOPBACK}:{self.ports['kafka']}")
        await consumer.start()
        try:
            partitions = consumer.assignment()
            starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        finally:
            await consumer.stop()
        count: int = sum(ends.values()) - sum(starts.values())
        return count


def created(response: httpx.Response) -> dict[str, Any]:
    """The body of a response that must be a success."""
    assert response.status_code in {200, 201}, response.text
    body: dict[str, Any] = response.json()
    return body


async def add_route(
    connection: asyncpg.Connection, name: str, models: list[str], upstream: str = "simulator", task: str = "chat"
) -> None:
    """Write a route for all tenants that tries these models of an upstream in order."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('argosy.tenant', '*', true)")
        await connection.execute("DELETE FROM orchestration.routes WHERE tenant_id = '*' AND model = $1", name)
        await connection.execute(
            "INSERT INTO orchestration.routes (tenant_id, model, task) VALUES ('*', $1, $2)", name, task
        )
        await connection.executemany(
            "INSERT INTO orchestration.route_candidates "
            "(tenant_id, model, position, upstream, upstream_model, max_output_tokens) "
            "VALUES ('*', $1, $2, $4, $3, $5)",
            # An embedding writes no tokens.
            [(name, position, model, upstream, 4096 if task == "chat" else 0) for position, model in enumerate(models)],
        )


def attach() -> Fleet:
    """Start the test fleet if it does not run, and return its addresses and keys."""
    start()
    env, ports = read_pairs(PATHS.env), harness_ports()
    return Fleet(
        base_url=env["ARGOSY_BASE_URL"],
        api_key=env["ARGOSY_API_KEY"],
        admin_key=env["ARGOSY_ADMIN_KEY"],
        postgres_dsn=env["ARGOSY_POSTGRES_DSN"],
        principal_secret=read_pairs(PATHS.secrets)["principal"],
        ports={name: int(port) for name, port in read_pairs(PATHS.ports).items()},
        simulator_port=ports["simulator"],
        otlp_port=ports["otlp"],
    )
