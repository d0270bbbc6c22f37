"""`up`: starts the fleet, or some of its parts, and waits until they are ready."""

import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from signal import SIGHUP

from argosy_dev.commands.progress import Progress
from argosy_dev.errors import CliError, DiskFull, FleetConflict, NotInstalled, StartFailed
from argosy_dev.fleet import ports, secrets
from argosy_dev.fleet.paths import APPEND, PRIVATE_FILE, FleetPaths, read_pairs, write_pairs
from argosy_dev.fleet.process_identity import ProcessIdentity
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import RUNNING, PartState, PartStatus, read_state
from argosy_dev.fleet.supervisor import DesiredState, last_lines, running_supervisor, stop_orphans
from argosy_dev.parts.build import REPLACEABLE, Fleet, build_fleet, environment_overrides, parse_endpoint

_MIN_FREE_BYTES = 1_000_000_000
_TIMEOUT_SECONDS = 300.0
_POLL_INTERVAL_SECONDS = 0.05


def up(paths: FleetPaths, only: Iterable[str] = (), progress: Progress | None = None) -> dict[str, str]:
    """Start the parts that do not run yet and return the content of `.argosy/env`; idempotent.

    Raises CliError when something is not installed, a port is taken, the disk is full, or a part does not become ready.
    """
    progress = progress or Progress.quiet()
    _check_disk(paths)
    paths.create()
    with exclusive(paths, progress):
        current = DesiredState.read(paths)
        if not running_supervisor(paths):
            current = DesiredState(current.generation)
        requested = environment_overrides(paths)
        _check_conflict(current, requested)
        overrides = {**current.overrides, **requested}
        fleet = build_fleet(paths, overrides)
        names = fleet.with_dependencies(tuple(only))
        _check_version(paths, names)
        _check_reachable(overrides)
        _check_installed(fleet, names)
        _check_ports(paths, fleet, names)
        desired = DesiredState(current.generation + 1, tuple(dict.fromkeys((*current.parts, *names))), overrides)
        desired.write(paths)
        supervisor = _notify_supervisor(paths)
        _wait_until_ready(paths, {name: fleet.specs[name] for name in names}, desired.generation, progress, supervisor)
        return write_env(paths, fleet, desired)


@contextmanager
def exclusive(paths: FleetPaths, progress: Progress) -> Iterator[None]:
    """Serialize the `up` and `down` commands of a fleet."""
    with paths.open_lock("up") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.print_line("waiting for another `up` or `down` of this fleet")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_env(paths: FleetPaths, fleet: Fleet, desired: DesiredState) -> dict[str, str]:
    """Write the addresses of the running parts, and the API keys once they exist, to `.argosy/env`."""
    present = {*desired.parts, *(REPLACEABLE[name] for name in desired.overrides if name in REPLACEABLE)}
    addresses = {name: value for name, value in fleet.addresses.items() if REPLACEABLE.get(name, "gateway") in present}
    pairs = addresses | (secrets.minted_keys(paths) if "gateway" in present else {})
    if pairs != read_pairs(paths.env):
        write_pairs(paths.env, pairs, comment="Addresses and keys of the running fleet. Written by `make up`.")
    return pairs


def _check_disk(paths: FleetPaths) -> None:
    folder = next(path for path in (paths.root, *paths.root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_BYTES:
        raise DiskFull(
            f"{folder} has {free / 1e9:.1f} GB left and the fleet needs {_MIN_FREE_BYTES / 1e9:.0f} GB: "
            "make room first."
        )


def _check_conflict(current: DesiredState, requested: Mapping[str, str]) -> None:
    """Overrides of running services cannot change; one that is not set now stays as it was."""
    if current.parts and (names := sorted(n for n in requested if current.overrides.get(n) != requested[n])):
        raise FleetConflict(f"The fleet runs with another {' and '.join(names)}: run `make down` first.")


def _check_version(paths: FleetPaths, names: Iterable[str]) -> None:
    """A supervisor started from older code may not have all parts."""
    if running_supervisor(paths) and not read_state(paths).known.issuperset(names):
        raise FleetConflict("The fleet was started by another version of this clone: run `make down` first.")


def _check_reachable(overrides: Mapping[str, str]) -> None:
    for variable, address in overrides.items():
        if variable not in REPLACEABLE:
            continue
        host, port = parse_endpoint(variable, address)
        try:
            socket.create_connection((host, port), timeout=3).close()
        except OSError as error:
            raise CliError(f"{variable} points to {host}:{port}, which does not accept connections.") from error


def _check_installed(fleet: Fleet, names: Iterable[str]) -> None:
    for name in names:
        if what := fleet.specs[name].missing():
            raise NotInstalled(what)


def _check_ports(paths: FleetPaths, fleet: Fleet, names: Iterable[str]) -> None:
    running: set[str] = set()
    if running_supervisor(paths):
        running = set(read_state(paths).parts)
    elif left := stop_orphans(paths):  # the processes of a killed supervisor hold our own ports
        raise CliError(f"Process {left[0].pid} of an earlier fleet cannot be stopped.")
    for name in names:
        if name not in running:
            ports.check_free(paths, fleet.specs[name].ports)


def _notify_supervisor(paths: FleetPaths) -> ProcessIdentity:
    """Make the supervisor read the desired state, or start one."""
    if supervisor := running_supervisor(paths):
        supervisor.send(SIGHUP)
        return supervisor
    log = str(paths.log("supervisor"))
    environment = {"ARGOSY_HOME": str(paths.root), "ARGOSY_ASSETS": str(paths.assets)}
    # subprocess would warn that the child outlives this process, which is the purpose here.
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "argosy_dev", "supervise"],
        os.environ | environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, APPEND, PRIVATE_FILE),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return ProcessIdentity.of(pid)


def _wait_until_ready(
    paths: FleetPaths,
    specs: Mapping[str, ProcessSpec],
    generation: int,
    progress: Progress,
    supervisor: ProcessIdentity,
) -> None:
    """Show the progress until all parts are ready; raise StartFailed when one fails or the time is up."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    with progress:
        while True:
            snapshot = read_state(paths)
            if snapshot.generation >= generation:
                parts = {name: snapshot.parts.get(name, PartState()) for name in specs}
                progress.show({name: (specs[name], part) for name, part in parts.items()})
                if all(part.status in RUNNING for part in parts.values()):
                    return
                for name, part in parts.items():
                    if part.status is PartStatus.FAILED:
                        raise StartFailed(_failure_report(paths, name, part.detail, part.log_offset))
            if time.monotonic() > deadline or not supervisor.alive():
                raise StartFailed(_failure_report(paths, "supervisor", "did not finish its work"))
            time.sleep(_POLL_INTERVAL_SECONDS)


def _failure_report(paths: FleetPaths, part: str, reason: str, log_offset: int = 0) -> str:
    lines = "".join(f"\n  | {line}" for line in last_lines(paths.log(part), 12, log_offset))
    log = paths.log(part)
    return f"{part}: {reason.removesuffix('.')}.{lines}\nThe whole log is {log}; `make down` stops the rest."
