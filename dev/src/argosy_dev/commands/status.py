"""`status`: one line per part, from a fresh probe of each."""

import asyncio
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from argosy_dev.commands.progress import COLOURS
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_identity import ProcessIdentity
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import PartState, PartStatus, read_state
from argosy_dev.fleet.supervisor import DesiredState, running_supervisor
from argosy_dev.parts.build import Fleet, build_fleet

_RIGHT_ALIGNED = ("port", "pid", "memory", "uptime", "restarts")


def status(paths: FleetPaths, console: Console) -> bool:
    """Print the table; return whether the supervisor runs and every part is ready."""
    if not paths.fleet.exists():
        console.print("The fleet has not been started; `make up` starts it.")
        return False
    fleet = build_fleet(paths, DesiredState.read(paths).overrides)
    supervisor = running_supervisor(paths)
    parts = {name: part for name, part in read_state(paths).parts.items() if name in fleet.specs}
    if not supervisor and not any(part.process and part.process.alive() for part in parts.values()):
        console.print("The fleet is stopped; `make up` starts it.")
        return False
    ready = asyncio.run(_probe(fleet, parts))
    console.print(_table(fleet, parts, ready, supervisor))
    for line in _reasons(parts):
        console.print(line)
    if not supervisor:
        console.print(
            "The supervisor has died, so parts that crash are not restarted: `make up` starts the fleet again."
        )
    return supervisor is not None and all(ready.values())


async def _probe(fleet: Fleet, parts: dict[str, PartState]) -> dict[str, bool]:
    async def probe(spec: ProcessSpec, part: PartState) -> bool:
        return await spec.probe() if spec.probe else part.status is PartStatus.DONE

    ready = await asyncio.gather(*(probe(fleet.specs[name], part) for name, part in parts.items()))
    return dict(zip(parts, ready, strict=True))


def _table(
    fleet: Fleet, parts: dict[str, PartState], ready: dict[str, bool], supervisor: ProcessIdentity | None
) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("part", "state", "port", "pid", "memory", "uptime", "restarts"):
        table.add_column(heading, justify="right" if heading in _RIGHT_ALIGNED else "left")
    for name, part in parts.items():
        spec = fleet.specs[name]
        if not spec.shown and part.status is PartStatus.DONE:
            continue
        ports = " ".join(str(port) for port in spec.ports.values())
        usage = _usage(part.process, with_children=True)
        table.add_row(name, _status(part, ready[name]), ports, *usage, str(part.restarts))
    if supervisor:
        usage = _usage(supervisor, with_children=False)
        table.add_row("supervisor", Text("ready", style="green"), "", *usage, "")
    return table


def _reasons(parts: dict[str, PartState]) -> list[str]:
    """Say what is wrong with a part now, and why the latest restart was necessary."""
    now = [f"{name} {part.detail}." for name, part in parts.items() if part.detail and part.status is PartStatus.READY]
    restarted = [
        f"{name} was restarted: it {part.restart_reason}." for name, part in parts.items() if part.restart_reason
    ]
    return now + restarted


def _status(part: PartState, ready: bool) -> Text:
    if part.status is PartStatus.READY and not ready:
        return Text("not answering" if part.detail else "not ready", style="bold red")
    return Text(part.status.value, style=COLOURS[part.status])


def _usage(process: ProcessIdentity | None, *, with_children: bool) -> tuple[str, str, str]:
    """Return pid, memory and uptime, for the table."""
    if process is None or not process.alive():
        return "", "", ""
    memory = sum(_resident_bytes(member.pid) for member in (process.tree() if with_children else {process}))
    try:
        uptime = max(0.0, time.time() - psutil.Process(process.pid).create_time())
    except psutil.Error:  # it has just exited
        return "", "", ""
    return str(process.pid), f"{memory / 1e6:.0f} MB", _duration(uptime)


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process, with its share of shared pages where the kernel reports it."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = divmod(int(seconds) // 60, 60)[::-1]
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
