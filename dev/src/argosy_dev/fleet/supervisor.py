"""The one background process of a fleet: it starts the parts, restarts what dies, and stops everything.

`up` and `down` talk to it through files and two signals: SIGHUP says that `wanted.json` changed, SIGTERM that it is
over.
"""

from __future__ import annotations

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
from typing import IO

from argosy_dev import board
from argosy_dev.board import Board, State
from argosy_dev.keeper import Keeper
from argosy_dev.part import Part
from argosy_dev.processes import Birth, end
from argosy_dev.state import Home, write_text

_LOG_BYTES = 50_000_000
_LOOK_SECONDS = 5.0
_ORPHAN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `up` asks for."""

    generation: int = 0
    parts: tuple[str, ...] = ()
    yours: Mapping[str, str] = field(default_factory=dict)
    """Parts that the user replaced: name of the variable and its value."""

    @classmethod
    def read(cls, home: Home) -> Wanted:
        """Read the file; no file wants nothing."""
        try:
            content = json.loads(home.wanted.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return cls()
        return cls(content["generation"], tuple(content["parts"]), content["yours"])

    def write(self, home: Home) -> None:
        """Replace the file; the addresses in it may hold passwords."""
        content = {"generation": self.generation, "parts": self.parts, "yours": dict(self.yours)}
        write_text(home.wanted, json.dumps(content), mode=0o600)


def lock(home: Home) -> IO[str] | None:
    """Take the supervisor's lock, or return None while another process of this home holds it."""
    file = (home.root / "supervisor.lock").open("w", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def running(home: Home) -> Birth | None:
    """Return the living supervisor of this home."""
    supervisor = board.read(home).supervisor
    return supervisor if supervisor and supervisor.alive() else None


class Supervisor:
    """Keeps the wanted parts alive until it is told to stop."""

    def __init__(self, home: Home, parts: Mapping[str, Part]) -> None:
        self._home = home
        self._parts = parts
        self._keepers: dict[str, Keeper] = {}
        self._board = Board(home, Birth.of(os.getpid()), parts)
        self._over = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM, then stop the parts, dependants first."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.over)
        await asyncio.to_thread(end_orphans, self._home)
        self.reload()
        # A fleet whose folder was deleted can neither be stopped nor found by anybody else.
        while not self._over.is_set() and self._home.fleet.exists():
            self._trim_logs()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._over.wait()
        await asyncio.gather(*(self._stop(name) for name in self._keepers))
        self.ended.set()

    def over(self) -> None:
        """Begin to stop."""
        self._over.set()

    def reload(self) -> None:
        """Look at what is wanted: start what is new, and try again what was given up."""
        wanted = Wanted.read(self._home)
        for name in wanted.parts:
            if name not in self._keepers:
                self._keepers[name] = Keeper(self._parts[name], self._home, self._board)
        for name in wanted.parts:
            self._keepers[name].begin()
        self._board.generation = wanted.generation
        self._board.write()

    async def _stop(self, name: str) -> None:
        """Stop one part once nothing that needs it runs any more."""
        dependants = [other for other, keeper in self._keepers.items() if name in keeper.part.needs]
        await self._board.until(lambda entries: all(entries[other].state is State.STOPPED for other in dependants))
        await self._keepers[name].stop()

    def _trim_logs(self) -> None:
        """Move a log that grew large aside; its writer appends, so emptying the file in place is safe."""
        for path in self._home.logs.glob("*.log"):
            if path.stat().st_size > _LOG_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def end_orphans(home: Home) -> list[Birth]:
    """End what a killed supervisor left behind, what needs others first; return what could not be ended."""
    entries = [entry for entry in board.read(home).entries.values() if entry.process and entry.process.alive()]
    left: list[Birth] = []
    for leans in (True, False):
        wave = {
            entry.process: signal.Signals[entry.stop] for entry in entries if entry.process and entry.leans is leans
        }
        left += end(wave, grace=_ORPHAN_SECONDS)
    return left


def supervise(home: Home, parts: Mapping[str, Part]) -> None:
    """Be the supervisor; returns at once when there is one already."""
    held = lock(home)
    if held is None:
        return
    with held:
        os.chdir(home.root)
        asyncio.run(_run(home, parts))


async def _run(home: Home, parts: Mapping[str, Part]) -> None:
    await Supervisor(home, parts).run()


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """Return the last lines of a log, none from before the byte `since`; none when there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(since if since < file.tell() else 0, file.tell() - 65_536))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
