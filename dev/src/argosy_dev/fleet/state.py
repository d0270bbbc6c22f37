"""What is known about each part, in memory for the supervisor and in `.argosy/fleet.json` for everyone else.

The file is also the memory of process ids: whoever comes after a killed supervisor ends what it left behind.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from argosy_dev.processes import Birth
from argosy_dev.state import Home, write_text


class State(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


UP = frozenset({State.READY, State.DONE})


@dataclass(frozen=True, slots=True)
class Entry:
    """One part, at one moment."""

    state: State = State.WAITING
    process: Birth | None = None
    since: float = 0.0
    """When this state began, in seconds of the wall clock."""
    restarts: int = 0
    detail: str = ""
    log_from: int = 0
    """Where its log begins to be about its latest life, in bytes."""
    stop: str = signal.SIGTERM.name
    """How it wants to be asked to end."""
    leans: bool = False
    """Whether it needs other parts, and so has to end before them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the file holds."""

    generation: int
    supervisor: Birth | None
    known: frozenset[str]
    """The parts that the supervisor can start."""
    entries: dict[str, Entry]


class Board:
    """The supervisor's own copy: every change is written down and wakes who waits for it."""

    def __init__(self, home: Home, supervisor: Birth, known: Iterable[str] = ()) -> None:
        self._home = home
        self._supervisor = supervisor
        self._known = sorted(known)
        self._changed = asyncio.Condition()
        self.generation = 0
        self.entries: dict[str, Entry] = {}

    async def put(self, part: str, **changes: Any) -> None:
        """Change the entry of `part`; a new state also gets a new `since`."""
        entry = self.entries.get(part, Entry())
        if changes.get("state", entry.state) != entry.state or not entry.since:
            changes["since"] = time.time()
        self.entries[part] = replace(entry, **changes)
        self.write()
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[dict[str, Entry]], bool]) -> None:
        """Wait until the entries satisfy `condition`."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self.entries))

    async def until_up(self, parts: Iterable[str]) -> None:
        """Wait until every one of `parts` is ready or done."""
        names = list(parts)
        await self.until(lambda entries: all(name in entries and entries[name].state in UP for name in names))

    def write(self) -> None:
        """Write everything down."""
        content = {
            "generation": self.generation,
            "supervisor": asdict(self._supervisor),
            "known": self._known,
            "parts": {name: asdict(entry) for name, entry in self.entries.items()},
        }
        write_text(self._home.fleet, json.dumps(content, indent=1), mode=0o644)


def read(home: Home) -> Snapshot:
    """Read the file; no file, or one cut short by a full disk, is a fleet that never ran."""
    try:
        content = json.loads(home.fleet.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Snapshot(0, None, frozenset(), {})
    return Snapshot(
        generation=content["generation"],
        supervisor=Birth(**content["supervisor"]),
        known=frozenset(content.get("known", content["parts"])),
        entries={name: _entry(entry) for name, entry in content["parts"].items()},
    )


def _entry(content: dict[str, Any]) -> Entry:
    """Read one entry; a supervisor of another version may have written more or less."""
    process = content["process"]
    read = content | {"state": State(content["state"]), "process": Birth(**process) if process else None}
    return Entry(**{field.name: read[field.name] for field in fields(Entry) if field.name in read})
