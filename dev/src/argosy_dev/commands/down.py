"""`down`: stops the fleet and all its processes."""

import signal

from argosy_dev.commands.progress import Progress
from argosy_dev.commands.up import exclusive
from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_identity import wait_until_ended
from argosy_dev.fleet.state import read_state
from argosy_dev.fleet.supervisor import running_supervisor, stop_orphans

_TIMEOUT_SECONDS = 60.0


def down(paths: FleetPaths, progress: Progress | None = None) -> bool:
    """Stop every part, dependants first; return whether anything ran.

    The supervisor stops them in order. If it is dead or stuck, the recorded processes are stopped directly.
    """
    progress = progress or Progress.quiet()
    if not paths.root.exists():
        return False
    with exclusive(paths, progress):
        supervisor = running_supervisor(paths)
        processes = [part.process for part in read_state(paths).parts.values()]
        alive = any(process.alive() for process in processes if process)
        if supervisor:
            progress.print_line("stopping the fleet")
            supervisor.send(signal.SIGTERM)
            if not wait_until_ended([supervisor], _TIMEOUT_SECONDS):
                supervisor.send(signal.SIGKILL)
                wait_until_ended([supervisor], 5)
        if left := stop_orphans(paths):
            raise CliError(f"Process {left[0].pid} still runs after SIGKILL.")
        return bool(supervisor) or alive
