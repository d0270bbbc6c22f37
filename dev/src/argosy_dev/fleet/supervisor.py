"""The background process of a fleet: starts the parts, restarts those that exit, stops them all.

`up` and `down` control it through a file and two signals: SIGHUP after a change of `desired.json`, SIGTERM to stop.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from argosy_dev.fleet.paths import PRIVATE_UMASK, FleetPaths, write_text
from argosy_dev.fleet.process import ProcessRunner
from argosy_dev.fleet.process_identity import ProcessIdentity, stop_processes
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import FleetState, PartStatus, read_state

_MAX_LOG_BYTES = 50_000_000
_CHECK_INTERVAL_SECONDS = 5.0
_ORPHAN_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The parts that shall run, as `up` requests them."""

    generation: int = 0
    parts: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    """What the environment replaces: variable and value."""

    @classmethod
    def read(cls, paths: FleetPaths) -> Self:
        """Read the file; a missing or truncated file requests nothing."""
        try:
            content = json.loads(paths.desired.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return cls()
        return cls(content["generation"], tuple(content["parts"]), content["overrides"])

    def write(self, paths: FleetPaths) -> None:
        """Replace the file; the addresses in it may contain passwords."""
        content = {"generation": self.generation, "parts": self.parts, "overrides": dict(self.overrides)}
        write_text(paths.desired, json.dumps(content))


def acquire_lock(paths: FleetPaths) -> IO[str] | None:
    """Acquire the supervisor's lock, or return None while another process of this fleet has it."""
    file = paths.open_lock("supervisor")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def running_supervisor(paths: FleetPaths) -> ProcessIdentity | None:
    """Return the supervisor of this fleet, if it runs."""
    supervisor = read_state(paths).supervisor
    return supervisor if supervisor and supervisor.alive() else None


class Supervisor:
    """Keeps the desired parts running until SIGTERM."""

    def __init__(self, paths: FleetPaths, specs: Mapping[str, ProcessSpec]) -> None:
        self._paths = paths
        self._specs = specs
        self._runners: dict[str, ProcessRunner] = {}
        self._state = FleetState(paths, ProcessIdentity.of(os.getpid()), specs)
        self._stopping = asyncio.Event()
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGTERM, then stop the parts, dependants first."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        await asyncio.to_thread(stop_orphans, self._paths)
        self.reload()
        # No command can find or stop a fleet whose folder was deleted, so it stops itself.
        while not self._stopping.is_set() and self._paths.fleet.exists():
            self._rotate_logs()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL_SECONDS):
                    await self._stopping.wait()
        await asyncio.gather(*(self._stop(name) for name in self._runners))
        self.stopped.set()

    def request_stop(self) -> None:
        """Make `run` stop the parts and return."""
        self._stopping.set()

    def reload(self) -> None:
        """Read the desired state: start new parts, and retry failed ones."""
        desired = DesiredState.read(self._paths)
        for name in desired.parts:
            if name not in self._runners:
                self._runners[name] = ProcessRunner(self._specs[name], self._paths, self._state)
        for name in desired.parts:
            self._runners[name].start()
        self._state.generation = desired.generation
        self._state.write()

    async def _stop(self, name: str) -> None:
        """Stop one part after all parts that need it."""
        dependants = [other for other, runner in self._runners.items() if name in runner.spec.needs]
        await self._state.wait_for(lambda parts: all(parts[other].status is PartStatus.STOPPED for other in dependants))
        await self._runners[name].stop()

    def _rotate_logs(self) -> None:
        """Copy a large log aside and truncate it; its writer appends, so it continues at the new end."""
        for path in self._paths.logs.glob("*.log"):
            if path.stat().st_size > _MAX_LOG_BYTES:
                shutil.copy(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def stop_orphans(paths: FleetPaths) -> list[ProcessIdentity]:
    """Stop the processes of a killed supervisor, dependants first; return those that still run."""
    parts = [part for part in read_state(paths).parts.values() if part.process and part.process.alive()]
    left: list[ProcessIdentity] = []
    for has_dependencies in (True, False):
        signals = {
            part.process: signal.Signals[part.stop]
            for part in parts
            if part.process and part.has_dependencies is has_dependencies
        }
        left += stop_processes(signals, grace_seconds=_ORPHAN_GRACE_SECONDS)
    return left


def supervise(paths: FleetPaths, specs: Mapping[str, ProcessSpec]) -> None:
    """Run the supervisor; return at once when another one runs."""
    lock = acquire_lock(paths)
    if lock is None:
        return
    with lock:
        os.chdir(paths.root)
        os.umask(PRIVATE_UMASK)  # for all that the parts write
        asyncio.run(_run(paths, specs))


async def _run(paths: FleetPaths, specs: Mapping[str, ProcessSpec]) -> None:
    await Supervisor(paths, specs).run()


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """Return the last lines of a log that begin at or after the byte `since`; none when there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(since if since < file.tell() else 0, file.tell() - 65_536))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
