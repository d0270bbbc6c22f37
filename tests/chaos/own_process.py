"""A service's process beside the fleet's, which is started again whenever it ends; drills may kill it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import httpx
import psutil

from tests.fleet.environment import PATHS

START_SECONDS = 60


class OwnProcess:
    """The process of a Python module, with its ops port."""

    def __init__(self, name: str, module: str, environment: dict[str, str], ops_port: int) -> None:
        self.name = name
        self.starts = 0
        self._module = module
        self.ready_url = f"http://127.0.0.1:{ops_port}/readyz"
        self.environment = environment
        """Of the next start, too; a drill may change it."""
        self._process: asyncio.subprocess.Process | None = None
        self._ready = False

    @property
    def pid(self) -> int:
        """The process; 0 while none is ready. Its children end with it."""
        return self._process.pid if self._process and self._process.returncode is None and self._ready else 0

    @property
    def serving_pid(self) -> int:
        """The child that serves, where the process is only its parent; 0 while there is none."""
        with suppress(psutil.Error):
            return next((child.pid for child in psutil.Process(self.pid).children()), 0) if self.pid else 0
        return 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing while none is ready."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def run(self) -> None:
        """Start the process, and again when it has ended, until this is cancelled."""
        while True:
            self._ready = False
            self.starts += 1
            with PATHS.log(self.name).open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", self._module, env=self.environment, stdout=log, stderr=log
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
async def running(processes: Sequence[OwnProcess]) -> AsyncIterator[None]:
    """Run the processes; the block begins when all are ready."""
    tasks = [asyncio.create_task(process.run()) for process in processes]
    try:
        async with asyncio.timeout(START_SECONDS):
            while not all(process.pid for process in processes):
                for process, task in zip(processes, tasks, strict=True):
                    assert not task.done(), f"{process.name} did not start; see {PATHS.log(process.name)}"
                await asyncio.sleep(0.1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
