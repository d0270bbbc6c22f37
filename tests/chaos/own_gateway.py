"""A gateway beside the fleet's, with a short deadline: leases end soon after it, so drills wait less."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet
from tests.fleet.environment import harness_ports

NAME = "chaos-gateway"
DEADLINE_SECONDS = 3


class OwnGateway(OwnProcess):
    """The process and its address."""

    def __init__(self, environment: dict[str, str], port: int, ops_port: int) -> None:
        super().__init__(NAME, "gateway", environment, ops_port)
        self.base_url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def own_gateway(fleet: Fleet) -> AsyncIterator[OwnGateway]:
    """Run the gateway; the block begins when it is ready."""
    ports = harness_ports()
    environment = psutil.Process(fleet.pid_of("gateway")).environ() | {
        "GATEWAY_HTTP__PORT": str(ports[NAME]),
        "GATEWAY_OPS__PORT": str(ports[f"{NAME}-ops"]),
        "GATEWAY_LIMITS__DEADLINE": str(DEADLINE_SECONDS),
    }
    gateway = OwnGateway(environment, ports[NAME], ports[f"{NAME}-ops"])
    async with running([gateway]):
        yield gateway
