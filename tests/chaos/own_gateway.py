"""A gateway beside the fleet's, with short time limits: what ends by them ends soon, so drills wait less."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psutil

from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet
from tests.fleet.environment import harness_ports

NAME = "chaos-gateway"
DEADLINE_SECONDS = 3
SHORT_DEADLINE = {"GATEWAY_LIMITS__DEADLINE": str(DEADLINE_SECONDS)}


class OwnGateway(OwnProcess):
    """The process and its address."""

    def __init__(self, name: str, environment: dict[str, str], port: int, ops_port: int) -> None:
        super().__init__(name, "gateway", environment, ops_port)
        self.base_url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def own_gateway(
    fleet: Fleet, settings: Mapping[str, str] = SHORT_DEADLINE, name: str = NAME
) -> AsyncIterator[OwnGateway]:
    """Run the gateway with these settings; the block begins when it is ready."""
    ports = harness_ports()
    environment = psutil.Process(fleet.pid_of("gateway")).environ() | {
        "GATEWAY_HTTP__PORT": str(ports[name]),
        "GATEWAY_OPS__PORT": str(ports[f"{name}-ops"]),
        **settings,
    }
    gateway = OwnGateway(name, environment, ports[name], ports[f"{name}-ops"])
    async with running([gateway]):
        yield gateway
