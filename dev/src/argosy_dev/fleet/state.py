"""The state of each part: in the supervisor's memory, and in `.argosy/fleet.json` for the other commands.

The file also records process ids, so that the next command can stop what a killed supervisor left running.
"""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from argosy_dev.fleet.paths import FleetPaths, write_text
from argosy_dev.fleet.process_identity import ProcessIdentity


class PartStatus(StrEnum):
    """The step of its life cycle that a part has reached."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


RUNNING = frozenset({PartStatus.READY, PartStatus.DONE})


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of one part."""

    status: PartStatus = PartStatus.WAITING
    process: ProcessIdentity | None = None
    since: float = 0.0
    """When the part got this status, in seconds of the wall clock."""
    restarts: int = 0
    detail: str = ""
    restart_reason: str = ""
    """Why the latest restart was necessary."""
    log_offset: int = 0
    """Where the output of the latest process begins in the log, in bytes."""
    stop: str = signal.SIGTERM.name
    """The signal that asks the process to stop."""
    has_dependencies: bool = False
    """Whether it needs other parts, and so has to stop before them."""


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The content of the file."""

    generation: int
    supervisor: ProcessIdentity | None
    known: frozenset[str]
    """The parts that the supervisor can start."""
    parts: dict[str, PartState]


class FleetState:
    """The supervisor's state; each change is written to the file and wakes the coroutines that wait for it."""

    def __init__(self, paths: FleetPaths, supervisor: ProcessIdentity, known: Iterable[str] = ()) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._known = sorted(known)
        self._changed = asyncio.Condition()
        self.generation = 0
        self.parts: dict[str, PartState] = {}

    async def update(self, part: str, **changes: Any) -> None:
        """Change fields of a part's state; a new status also sets `since`."""
        state = self.parts.get(part, PartState())
        if changes.get("status", state.status) != state.status or not state.since:
            changes["since"] = time.time()
        self.parts[part] = replace(state, **changes)
        self.write()
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, condition: Callable[[dict[str, PartState]], bool]) -> None:
        """Wait until `condition` is true of the parts."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self.parts))

    async def wait_until_running(self, names: Iterable[str]) -> None:
        """Wait until all the parts are ready or done."""
        needed = list(names)
        await self.wait_for(lambda parts: all(name in parts and parts[name].status in RUNNING for name in needed))

    def write(self) -> None:
        content = {
            "generation": self.generation,
            "supervisor": asdict(self._supervisor),
            "known": self._known,
            "parts": {name: asdict(state) for name, state in self.parts.items()},
        }
        write_text(self._paths.fleet, json.dumps(content, indent=1))


def read_state(paths: FleetPaths) -> FleetSnapshot:
    """Read the file; a missing or truncated file (disk full) counts as a fleet that never ran."""
    try:
        content = json.loads(paths.fleet.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return FleetSnapshot(0, None, frozenset(), {})
    return FleetSnapshot(
        generation=content["generation"],
        supervisor=ProcessIdentity.from_json(content["supervisor"]),
        known=frozenset(content.get("known", content["parts"])),
        parts={name: _part_state(part) for name, part in content["parts"].items()},
    )


def _part_state(content: dict[str, Any]) -> PartState:
    # A supervisor of another version may have written more or fewer fields.
    known = {field.name: content[field.name] for field in fields(PartState) if field.name in content}
    process = content["process"]
    known["process"] = ProcessIdentity.from_json(process) if process else None
    known["status"] = PartStatus(content.get("status") or content["state"])
    return PartState(**known)
