"""Runs the process of one part: starts it, probes it, restarts it."""

import asyncio
import os
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_identity import ProcessIdentity, stop_processes
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import FleetState, PartState, PartStatus

_RESTART_DELAYS = (0.1, 0.3, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 10.0
"""A process that ran this long starts the delays anew."""
_MAX_ATTEMPTS = 3
_PROBE_INTERVAL_SECONDS = 0.05
_WATCH_INTERVAL_SECONDS = 2.0
"""Between two looks at a part that is ready."""
_MIN_UNANSWERED = 3
"""Looks without an answer before a part hangs: a supervisor that was itself frozen must not blame its parts."""
_FORCE_SECONDS = 2.0
_INVALID_SETTINGS = 78  # the exit status of a service that rejects its settings


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one run of the process ended."""

    succeeded: bool
    """Whether it became ready, or completed its step."""
    reason: str
    permanent: bool = False
    """Whether another attempt would fail too."""


class ProcessRunner:
    """Starts a part when its dependencies are ready, and restarts it whenever it exits.

    A part that was ready once is restarted without limit, with growing delays. A part that never became ready fails
    after a few attempts; the next `up` tries again.
    """

    def __init__(self, spec: ProcessSpec, paths: FleetPaths, state: FleetState) -> None:
        self.spec = spec
        self._paths = paths
        self._state = state
        self._identity: ProcessIdentity | None = None
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False

    def start(self) -> None:
        """Start the part if it does not run; a failed part gets new attempts."""
        if self._task is None or self._state.parts[self.spec.name].status is PartStatus.FAILED:
            self._state.parts[self.spec.name] = PartState(
                stop=self.spec.stop.name, has_dependencies=bool(self.spec.needs)
            )
            self._task = asyncio.create_task(self._run(), name=self.spec.name)

    async def stop(self) -> None:
        """Stop the process and its descendants."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._identity:
            await asyncio.to_thread(
                stop_processes, {self._identity: self.spec.stop}, grace_seconds=self.spec.grace_seconds
            )
        if self._process:
            await self._process.wait()
            await asyncio.sleep(0)  # asyncio closes the transport one turn later; the loop may end after this
        await self._state.update(self.spec.name, status=PartStatus.STOPPED, process=None, detail="")

    async def _run(self) -> None:
        attempts, restarts = 0, 0
        while True:
            started = time.monotonic()
            try:
                result = await self._run_once()
            except Exception as error:  # noqa: BLE001 - fails this part, never the supervisor
                result = RunResult(succeeded=False, reason=str(error) or type(error).__name__, permanent=True)
            if result.succeeded and self.spec.runs_once:
                return
            stable = result.succeeded and time.monotonic() - started > _STABLE_SECONDS
            attempts, restarts = 1 if stable else attempts + 1, restarts + 1
            if (result.permanent or attempts >= _MAX_ATTEMPTS) and not self._was_ready:
                await self._set_status(PartStatus.FAILED, result.reason)
                return
            await self._state.update(
                self.spec.name,
                process=None,
                status=PartStatus.RESTARTING,
                restarts=restarts,
                detail=result.reason,
                restart_reason=result.reason,
            )
            await asyncio.sleep(_RESTART_DELAYS[min(attempts, len(_RESTART_DELAYS)) - 1])

    async def _run_once(self) -> RunResult:
        """Wait for the dependencies, then run the process until it exits."""
        await self._set_status(PartStatus.WAITING)
        await self._state.wait_until_running(self.spec.needs)
        await self._set_status(PartStatus.PREPARING)
        await asyncio.to_thread(self.spec.prepare)
        process = await self._spawn()
        await self._set_status(PartStatus.STARTING)
        if self.spec.runs_once:
            return await self._complete_step(process)
        if not await self._wait_ready(process):
            return await self._start_failed(process)
        self._was_ready = True
        await self._set_status(PartStatus.READY)
        return RunResult(succeeded=True, reason=await self._watch(process))

    async def _watch(self, process: Process) -> str:
        """Wait until the process exits, or stop it when it hangs; return why it ended."""
        alive = self.spec.alive or self.spec.probe
        assert alive
        unanswered, since = 0, 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_INTERVAL_SECONDS):
                    return _exit_reason(await process.wait())
            asked = time.monotonic()
            if await alive():
                if unanswered:
                    await self._set_status(PartStatus.READY)
                unanswered = 0
                continue
            unanswered, since = unanswered + 1, since if unanswered else asked
            silent = time.monotonic() - since
            if process.returncode is not None:
                continue
            if unanswered >= _MIN_UNANSWERED and silent >= self.spec.hang_seconds:
                await self._end(process)
                return f"has not answered for {silent:.0f} s"
            await self._set_status(PartStatus.READY, f"has not answered for {silent:.0f} s")

    async def _end(self, process: Process) -> None:
        """Stop a process that does not do what it should, soon by force."""
        if self._identity:
            await asyncio.to_thread(stop_processes, {self._identity: self.spec.stop}, grace_seconds=_FORCE_SECONDS)
        await process.wait()

    async def _spawn(self) -> Process:
        """Start the program in its own session, with its output appended to its log."""
        environment, cwd = process_environment(self.spec.environment()), self._paths.root
        log = self._paths.open_log(self.spec.name)
        log_offset = os.fstat(log).st_size
        try:
            command = list(self.spec.command())
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
            raise CliError(f"{Path(command[0]).name} could not be started: {error}.") from error
        finally:
            os.close(log)
        self._process = process
        with suppress(psutil.Error):  # the process may have exited already
            self._identity = ProcessIdentity.of(process.pid)
        await self._state.update(self.spec.name, process=self._identity, log_offset=log_offset)
        return process

    async def _wait_ready(self, process: Process) -> bool:
        """Probe until the process is ready; return False when it exits or the time is up."""
        assert self.spec.probe
        deadline = time.monotonic() + self.spec.start_seconds
        while process.returncode is None and time.monotonic() < deadline:
            if await self.spec.probe() and process.returncode is None:
                return True
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
        return False

    async def _complete_step(self, process: Process) -> RunResult:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.spec.start_seconds):
                await process.wait()
        if process.returncode == 0:
            await self._state.update(self.spec.name, status=PartStatus.DONE, process=None, detail="")
            return RunResult(succeeded=True, reason="")
        return await self._start_failed(process)

    async def _start_failed(self, process: Process) -> RunResult:
        if process.returncode is not None:
            permanent = process.returncode == _INVALID_SETTINGS
            return RunResult(succeeded=False, reason=_exit_reason(process.returncode), permanent=permanent)
        await self._end(process)
        return RunResult(succeeded=False, reason=f"was not ready within {self.spec.start_seconds:.0f} s")

    async def _set_status(self, status: PartStatus, detail: str = "") -> None:
        await self._state.update(self.spec.name, status=status, detail=detail)


def process_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a part: the supervisor's, with bytecode caching on and output unbuffered."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {"PYTHONUNBUFFERED": "1"} | dict(extra)


def _exit_reason(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
