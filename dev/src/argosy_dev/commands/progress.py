"""Shows the progress of `up`: a live table in a terminal, one line per event in a pipe."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import RUNNING, PartState, PartStatus

Rows = Mapping[str, tuple[ProcessSpec, PartState]]

COLOURS = {
    PartStatus.WAITING: "dim",
    PartStatus.PREPARING: "cyan",
    PartStatus.STARTING: "yellow",
    PartStatus.READY: "green",
    PartStatus.DONE: "green",
    PartStatus.RESTARTING: "red",
    PartStatus.FAILED: "bold red",
    PartStatus.STOPPED: "dim",
}
_MARKS = {
    PartStatus.READY: "✓",
    PartStatus.DONE: "✓",
    PartStatus.FAILED: "✗",
    PartStatus.RESTARTING: "↻",
    PartStatus.WAITING: "·",
}


class Progress:
    """Shows the status of parts; a context manager around the wait."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._live: Live | None = None
        self._started, self._started_at = time.monotonic(), time.time()
        self._shown: dict[str, PartStatus] = {}
        self._durations: dict[str, float] = {}

    @classmethod
    def on_stdout(cls) -> Self:
        return cls(Console(highlight=False))

    @classmethod
    def quiet(cls) -> Self:
        return cls(None)

    def __enter__(self) -> Self:
        self._started, self._started_at = time.monotonic(), time.time()
        if self._console and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=12, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def print_line(self, text: str) -> None:
        if self._console:
            self._console.print(text, soft_wrap=True)

    def show(self, rows: Rows) -> None:
        """Show the current state of all parts."""
        elapsed = time.monotonic() - self._started
        for name, (_, state) in rows.items():
            if state.status in RUNNING and name not in self._durations:
                self._durations[name] = elapsed
        if self._live:
            self._live.update(self._table(rows, elapsed))
        elif self._console:
            self._print_changes(rows, elapsed)
        self._shown = {name: state.status for name, (_, state) in rows.items()}

    def _print_changes(self, rows: Rows, elapsed: float) -> None:
        """Print a line per change; one line names all parts that ran before."""
        if not self._shown:
            self._shown = {
                name: state.status
                for name, (_, state) in rows.items()
                if state.status in RUNNING and state.since < self._started_at
            }
            if names := [name for name in self._shown if rows[name][0].shown]:
                self.print_line(f"running already: {', '.join(names)}")
        for name, (_, state) in rows.items():
            printed = state.status in RUNNING or state.status in (PartStatus.FAILED, PartStatus.RESTARTING)
            if printed and self._shown.get(name) is not state.status:
                detail = f": {state.detail}" if state.detail else ""
                self.print_line(f"{elapsed:5.1f} s  {name} {state.status.value}{detail}")

    def _table(self, rows: Rows, elapsed: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, (spec, state) in rows.items():
            colour = COLOURS[state.status]
            waiting = state.status is PartStatus.WAITING
            table.add_row(
                Text(_MARKS.get(state.status, "•"), style=colour),
                name,
                Text(state.status.value, style=colour),
                "" if waiting else f"{self._durations.get(name, elapsed):.1f} s",
                ", ".join(str(port) for port in spec.ports.values()),
                Text(state.detail, style="dim"),
            )
        return table
