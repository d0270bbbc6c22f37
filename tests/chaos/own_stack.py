"""Two orchestrators, two workers and a gateway beside the fleet's, with the settings of a drill."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_gateway import own_gateway
from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet
from tests.fleet.control import provision_drill_topics
from tests.fleet.environment import DRILL_ORCHESTRATORS, DRILL_POOL, DRILL_WORKERS, harness_ports


@dataclass
class Stack:
    """Its processes, and the gateway's address."""

    orchestrators: list[OwnProcess]
    workers: list[OwnProcess]
    base_url: str

    async def restart(self, processes: list[OwnProcess], setting: str, value: str) -> None:
        """Restart the processes in turn with this setting, each when the one before is ready."""
        for process in processes:
            process.environment[setting] = value
            starts = process.starts
            process.send(signal.SIGTERM)

            async def is_back(process: OwnProcess = process, starts: int = starts) -> bool:
                return process.starts > starts and bool(process.pid)

            await wait_for(f"{process.name} is ready again", 60, is_back)


@asynccontextmanager
async def own_stack(
    fleet: Fleet,
    *,
    orchestrator: Mapping[str, str] | None = None,
    worker: Mapping[str, str] | None = None,
) -> AsyncIterator[Stack]:
    """Run the stack with these settings, which are else the fleet's; the block begins when all of it is ready."""
    await asyncio.to_thread(provision_drill_topics)
    ports = harness_ports()

    def addresses(names: tuple[str, ...]) -> str:
        return ",".join(f"127.0.0.1:{ports[f'{name}-grpc']}" for name in names)

    def own(name: str, service: str, module: str, changed: Mapping[str, str]) -> OwnProcess:
        prefix = module.upper()
        inherited = psutil.Process(fleet.pid_of(service)).environ()
        own_ports = {
            f"{prefix}_GRPC__BIND": f"127.0.0.1:{ports[f'{name}-grpc']}",
            f"{prefix}_OPS__PORT": str(ports[f"{name}-ops"]),
        }
        return OwnProcess(name, module, {**inherited, **own_ports, **changed}, ports[f"{name}-ops"])

    names = DRILL_WORKERS[:2]
    peers = {"ORCHESTRATOR_PEERS__INFERENCE_WORKER": addresses(names), **(orchestrator or {})}
    pool = {
        "INFERENCE_WORKER_JOBS__POOL": DRILL_POOL,
        "INFERENCE_WORKER_PEERS__ORCHESTRATOR": addresses(DRILL_ORCHESTRATORS),
        **(worker or {}),
    }
    orchestrators = [own(name, "orchestrator", "orchestrator", peers) for name in DRILL_ORCHESTRATORS]
    workers = [own(name, "inference-worker", "inference_worker", pool) for name in names]
    settings = {"GATEWAY_PEERS__ORCHESTRATOR": addresses(DRILL_ORCHESTRATORS)}
    async with running([*orchestrators, *workers]), own_gateway(fleet, settings, "drill-gateway") as gateway:
        yield Stack(orchestrators, workers, gateway.base_url)
