"""Random faults: SIGKILL, and SIGSTOP with SIGCONT after a while."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psutil
from argosy_dev.fleet.process_identity import ProcessIdentity

RUNNING_TIMEOUT_SECONDS = 30.0
"""A part that does not run for this long is left out of a round."""


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Stop a process and its descendants for the time of the block."""
    processes = ProcessIdentity.of(pid).tree()
    for process in processes:
        process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send(signal.SIGCONT)


@dataclass(slots=True)
class Faults:
    """Kills and freezes every part once in each round, in random order; a part may be hit while others are frozen."""

    rng: random.Random
    pid_of: Callable[[str], int]
    """The process of a part; 0 while it does not run."""
    max_freeze_seconds: float
    max_pause_seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    freezes: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    _frozen: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self, parts: Sequence[str], seconds: float) -> None:
        """Run whole rounds, at least one, until the time is over; then all parts are on their own again."""
        end = time.monotonic() + seconds
        try:
            while True:
                round_of_faults = [(part, kill) for part in parts for kill in (True, False)]
                self.rng.shuffle(round_of_faults)
                # While the gateway is away no other part has work, so its faults come last.
                round_of_faults.sort(key=lambda fault: fault[0] == "gateway")
                for part, kill in round_of_faults:
                    await self._hit(part, kill=kill)
                    await asyncio.sleep(self.rng.uniform(0, self.max_pause_seconds))
                if time.monotonic() >= end:
                    return
        finally:
            await asyncio.gather(*self._frozen.values())

    async def _hit(self, part: str, *, kill: bool) -> None:
        # Drawn before anything that depends on time: the same seed gives the same faults.
        freeze_seconds = self.rng.uniform(0.2, 1) * self.max_freeze_seconds
        if part in self._frozen:
            await self._frozen.pop(part)
        pid = await self._running(part)
        if not pid:
            self.skipped += 1
        elif kill:
            self.kills[part] += 1
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            self.freezes[part] += 1
            self._frozen[part] = asyncio.create_task(_freeze(pid, freeze_seconds))

    async def _running(self, part: str) -> int:
        deadline = time.monotonic() + RUNNING_TIMEOUT_SECONDS
        while not (pid := self.pid_of(part)) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return pid


async def _freeze(pid: int, seconds: float) -> None:
    with suppress(psutil.NoSuchProcess):
        async with frozen(pid):
            await asyncio.sleep(seconds)
