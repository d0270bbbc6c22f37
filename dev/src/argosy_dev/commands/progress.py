"""What `up` shows while it waits: a live table in a terminal, one line per event in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from argosy_dev.board import UP, Entry, State
from argosy_dev.part import Part

Rows = Mapping[str, tuple[Part, Entry]]

COLOURS = {
    State.WAITING: "dim",
    State.PREPARING: "cyan",
    State.STARTING: "yellow",
    State.READY: "green",
    State.DONE: "green",
    State.RESTARTING: "red",
    State.FAILED: "bold red",
    State.STOPPED: "dim",
}
_MARKS = {State.READY: "✓", State.DONE: "✓", State.FAILED: "✗", State.RESTARTING: "↻", State.WAITING: "·"}


class Progress:
    """Shows parts coming up; use it as a context manager around the waiting."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._live: Live | None = None
        self._began, self._began_at = time.monotonic(), time.time()
        self._seen: dict[str, State] = {}
        self._took: dict[str, float] = {}

    @classmethod
    def on_stdout(cls) -> Self:
        """Show on standard output, in the way it can."""
        return cls(Console(highlight=False))

    @classmethod
    def quiet(cls) -> Self:
        """Show nothing."""
        return cls(None)

    def __enter__(self) -> Self:
        self._began, self._began_at = time.monotonic(), time.time()
        if self._console and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=12, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print one line."""
        if self._console:
            self._console.print(text, soft_wrap=True)

    def show(self, rows: Rows) -> None:
        """Show where every part is now."""
        elapsed = time.monotonic() - self._began
        for name, (_, entry) in rows.items():
            if entry.state in UP and name not in self._took:
                self._took[name] = elapsed
        if self._live:
            self._live.update(self._table(rows, elapsed))
        elif self._console:
            self._tell(rows, elapsed)
        self._seen = {name: entry.state for name, (_, entry) in rows.items()}

    def _tell(self, rows: Rows, elapsed: float) -> None:
        """Print a line per event; what ran before this `up` is named in one."""
        if not self._seen:
            before = {n: entry for n, (_, entry) in rows.items() if entry.state in UP and entry.since < self._began_at}
            self._seen = {name: entry.state for name, entry in before.items()}
            if shown := [name for name in self._seen if rows[name][0].shown]:
                self.say(f"running already: {', '.join(shown)}")
        for name, (_, entry) in rows.items():
            loud = entry.state in UP or entry.state in (State.FAILED, State.RESTARTING)
            if loud and self._seen.get(name) is not entry.state:
                detail = f": {entry.detail}" if entry.detail else ""
                self.say(f"{elapsed:5.1f} s  {name} {entry.state.value}{detail}")

    def _table(self, rows: Rows, elapsed: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, (part, entry) in rows.items():
            colour = COLOURS[entry.state]
            took = f"{self._took.get(name, elapsed):.1f} s" if entry.state is not State.WAITING else ""
            where = ", ".join(str(port) for port in part.ports.values())
            mark = Text(_MARKS.get(entry.state, "•"), style=colour)
            table.add_row(
                mark, name, Text(entry.state.value, style=colour), took, where, Text(entry.detail, style="dim")
            )
        return table
