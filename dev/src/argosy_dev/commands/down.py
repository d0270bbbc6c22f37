"""`down`: stop the fleet and leave no process of it behind."""

from __future__ import annotations

import signal

from argosy_dev import board, supervisor
from argosy_dev.processes import wait_gone
from argosy_dev.progress import Progress
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home
from argosy_dev.up import exclusive

_SECONDS = 60.0


def down(home: Home, progress: Progress | None = None) -> bool:
    """Stop every part, dependants first; say whether anything ran.

    The supervisor stops them in order. Where it is gone or stuck, the recorded processes are ended one by one.
    """
    progress = progress or Progress.quiet()
    if not home.root.exists():
        return False
    with exclusive(home, progress):
        daemon = supervisor.running(home)
        recorded = [entry.process for entry in board.read(home).entries.values()]
        alive = any(process.alive() for process in recorded if process)
        if daemon:
            progress.say("stopping the fleet")
            daemon.send(signal.SIGTERM)
            if not wait_gone([daemon], _SECONDS):
                daemon.send(signal.SIGKILL)
                wait_gone([daemon], 5)
        if left := supervisor.end_orphans(home):
            raise Refusal(f"Process {left[0].pid} does not end, not even when killed.")
        return bool(daemon) or alive
