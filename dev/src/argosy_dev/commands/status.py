"""`status`: one line per part, asked for now rather than remembered."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from argosy_dev import board, supervisor
from argosy_dev.board import Entry, State
from argosy_dev.fleet import Fleet, compose
from argosy_dev.part import Part
from argosy_dev.processes import Birth
from argosy_dev.progress import COLOURS
from argosy_dev.state import Home
from argosy_dev.supervisor import Wanted


def status(home: Home, console: Console) -> bool:
    """Print the table; say whether every wanted part serves."""
    if not home.fleet.exists():
        console.print("The fleet has not been started; `make up` starts it.")
        return False
    wanted = Wanted.read(home)
    fleet = compose(home, wanted.yours)
    daemon = supervisor.running(home)
    entries = {name: entry for name, entry in board.read(home).entries.items() if name in fleet.parts}
    if not daemon and not any(entry.process and entry.process.alive() for entry in entries.values()):
        console.print("The fleet is stopped; `make up` starts it.")
        return False
    answers = asyncio.run(_ask(fleet, entries))
    console.print(_table(fleet, entries, answers, daemon))
    if not daemon:
        console.print("Its supervisor is gone, so nothing restarts what crashes: `make up` starts the fleet anew.")
    return daemon is not None and all(answers.values())


async def _ask(fleet: Fleet, entries: dict[str, Entry]) -> dict[str, bool]:
    """Put each part's own question to it; a step answers by having finished."""

    async def one(part: Part, entry: Entry) -> bool:
        return await part.probe() if part.probe else entry.state is State.DONE

    answers = await asyncio.gather(*(one(fleet.parts[name], entry) for name, entry in entries.items()))
    return dict(zip(entries, answers, strict=True))


def _table(fleet: Fleet, entries: dict[str, Entry], answers: dict[str, bool], daemon: Birth | None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("part", "state", "port", "pid", "memory", "uptime", "restarts"):
        table.add_column(
            heading, justify="right" if heading in ("port", "pid", "memory", "uptime", "restarts") else "left"
        )
    for name, entry in entries.items():
        part = fleet.parts[name]
        if not part.shown and entry.state is State.DONE:
            continue
        ports = " ".join(str(port) for port in part.ports.values())
        table.add_row(
            name, _state(entry, answers[name]), ports, *_vitals(entry.process, with_children=True), str(entry.restarts)
        )
    if daemon:
        table.add_row("supervisor", Text("ready", style="green"), "", *_vitals(daemon, with_children=False), "")
    return table


def _state(entry: Entry, answers: bool) -> Text:
    if entry.state is State.READY and not answers:
        return Text("not answering", style="bold red")
    return Text(entry.state.value, style=COLOURS[entry.state])


def _vitals(process: Birth | None, *, with_children: bool) -> tuple[str, str, str]:
    """Return process id, memory and uptime of a part, for the table."""
    if process is None or not process.alive():
        return "", "", ""
    memory = sum(_resident(birth.pid) for birth in (process.tree() if with_children else {process}))
    try:
        uptime = max(0.0, time.time() - psutil.Process(process.pid).create_time())
    except psutil.Error:  # it has just died
        return "", "", ""
    return str(process.pid), f"{memory / 1e6:.0f} MB", _span(uptime)


def _resident(pid: int) -> int:
    """Return a process' memory in bytes, with pages that several share counted in parts where the kernel tells."""
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


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = divmod(int(seconds) // 60, 60)[::-1]
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
