"""Keeping one part alive."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from argosy_dev.board import Board, Entry, State
from argosy_dev.part import Part
from argosy_dev.processes import Birth, end
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home

_PAUSES = (0.1, 0.3, 1.0, 2.0, 5.0)
_STEADY_SECONDS = 10.0
_ATTEMPTS = 3
_PROBE_EVERY = 0.05
_BAD_SETTINGS = 78  # how our services leave when they refuse their settings


@dataclass(frozen=True, slots=True)
class Ending:
    """How one life of a part went."""

    served: bool
    """Whether it was ready at some time, or did its step."""
    reason: str
    hopeless: bool = False
    """Whether trying again cannot help."""


class Keeper:
    """Starts a part when its needs are met, and again whenever it dies.

    A part that was ready once is restarted for ever, with growing pauses. One that never became ready is given up after
    a few attempts: the next `up` tries again.
    """

    def __init__(self, part: Part, home: Home, board: Board) -> None:
        self.part = part
        self._home = home
        self._board = board
        self._birth: Birth | None = None
        self._task: asyncio.Task[None] | None = None
        self._served = False

    def begin(self) -> None:
        """Start, unless it is already being kept or done; a part that was given up gets a new chance."""
        if self._task is None or self._board.entries[self.part.name].state is State.FAILED:
            self._board.entries[self.part.name] = Entry(stop=self.part.stop.name, leans=bool(self.part.needs))
            self._task = asyncio.create_task(self._keep(), name=self.part.name)

    async def stop(self) -> None:
        """Stop the part for good, and its children with it."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._birth:
            await asyncio.to_thread(end, {self._birth: self.part.stop}, grace=self.part.grace_seconds)
        await self._board.put(self.part.name, state=State.STOPPED, process=None, detail="")

    async def _keep(self) -> None:
        attempts, restarts = 0, 0
        while True:
            began = time.monotonic()
            try:
                ending = await self._live()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this part's story and not the supervisor's
                ending = Ending(served=False, reason=str(error) or type(error).__name__, hopeless=True)
            if ending.served and self.part.runs_once:
                return
            steady = ending.served and time.monotonic() - began > _STEADY_SECONDS
            attempts, restarts = 1 if steady else attempts + 1, restarts + 1
            if (ending.hopeless or attempts >= _ATTEMPTS) and not self._served:
                await self._put(State.FAILED, ending.reason)
                return
            again = {"state": State.RESTARTING, "restarts": restarts, "detail": ending.reason}
            await self._board.put(self.part.name, process=None, **again)
            await asyncio.sleep(_PAUSES[min(attempts, len(_PAUSES)) - 1])

    async def _live(self) -> Ending:
        """Live through one life of the part, from its needs to its end."""
        await self._put(State.WAITING)
        await self._board.until_up(self.part.needs)
        await self._put(State.PREPARING)
        await asyncio.to_thread(self.part.prepare)
        process = await self._spawn()
        await self._put(State.STARTING)
        if self.part.runs_once:
            return await self._finish(process)
        if not await self._ready(process):
            return await self._give_up(process)
        self._served = True
        await self._put(State.READY)
        return Ending(served=True, reason=_how(await process.wait()))

    async def _spawn(self) -> Process:
        """Start the program in a session of its own, with everything it prints in its log."""
        environment, cwd = environment_of(self.part.environment()), self._home.root
        log = os.open(self._home.log(self.part.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        log_from = os.fstat(log).st_size
        try:
            command = list(self.part.command())
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                start_new_session=True,
                cwd=cwd,
                env=environment,
            )
        except OSError as error:
            raise Refusal(f"{Path(command[0]).name} could not be started: {error}.") from error
        finally:
            os.close(log)
        with suppress(psutil.Error):  # it can be over already
            self._birth = Birth.of(process.pid)
        await self._board.put(self.part.name, process=self._birth, log_from=log_from)
        return process

    async def _ready(self, process: Process) -> bool:
        """Ask until the part serves; False when it ended or took too long."""
        assert self.part.probe
        deadline = time.monotonic() + self.part.start_seconds
        while process.returncode is None and time.monotonic() < deadline:
            if await self.part.probe() and process.returncode is None:
                return True
            await asyncio.sleep(_PROBE_EVERY)
        return False

    async def _finish(self, process: Process) -> Ending:
        """Wait for the end of a step; it served its purpose when it exits with 0."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.part.start_seconds):
                await process.wait()
        if process.returncode == 0:
            await self._board.put(self.part.name, state=State.DONE, process=None, detail="")
            return Ending(served=True, reason="")
        return await self._give_up(process)

    async def _give_up(self, process: Process) -> Ending:
        if process.returncode is not None:
            return Ending(served=False, reason=_how(process.returncode), hopeless=process.returncode == _BAD_SETTINGS)
        if self._birth:
            await asyncio.to_thread(end, {self._birth: self.part.stop}, grace=2.0)
        await process.wait()
        return Ending(served=False, reason=f"was not ready within {self.part.start_seconds:.0f} s")

    async def _put(self, state: State, detail: str = "") -> None:
        await self._board.put(self.part.name, state=state, detail=detail)


def environment_of(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what a part finds in its environment: ours, without what would slow every start of a Python program."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {"PYTHONUNBUFFERED": "1"} | dict(extra)


def _how(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
