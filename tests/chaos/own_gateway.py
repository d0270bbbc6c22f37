"""A gateway beside the fleet's, with short time limits: what ends by them ends soon, so drills wait less."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx
import psutil

from tests.fleet.client import Fleet
from tests.fleet.environment import PATHS, harness_ports

NAME = "chaos-gateway"
DEADLINE_SECONDS = 3
SHORT_DEADLINE = {"GATEWAY_LIMITS__DEADLINE": str(DEADLINE_SECONDS)}


class OwnGateway:
    """The process, which is started again whenever it ends."""

    def __init__(self, name: str, environment: dict[str, str], port: int, ops_port: int) -> None:
        self._log = PATHS.log(name)
        self.base_url = f"http://127.0.0.1:{port}"
        self.ready_url = f"http://127.0.0.1:{ops_port}/readyz"
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._ready = False

    @property
    def pid(self) -> int:
        """The process; 0 while none is ready."""
        return self._process.pid if self._process and self._process.returncode is None and self._ready else 0

    async def run(self) -> None:
        """Start the process, and again when it has ended, until this is cancelled."""
        while True:
            self._ready = False
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "gateway", env=self._environment, stdout=log, stderr=log
                )
            ready = asyncio.create_task(self._wait_until_ready())
            try:
                await self._process.wait()
            finally:
                ready.cancel()
                await self._stop()

    async def _wait_until_ready(self) -> None:
        async with httpx.AsyncClient(timeout=5) as http:
            while not self._ready:
                with suppress(httpx.TransportError):
                    self._ready = (await http.get(self.ready_url)).status_code == 200
                await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            await self._process.wait()


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
    running = asyncio.create_task(gateway.run())
    try:
        async with asyncio.timeout(60):
            while not gateway.pid:
                assert not running.done(), f"the gateway did not start; see {PATHS.log(name)}"
                await asyncio.sleep(0.1)
        yield gateway
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
