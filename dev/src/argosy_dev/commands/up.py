"""`up`: bring the fleet, or some of its parts, to life and wait until it serves."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from signal import SIGHUP

from argosy_dev import board, ports, secrets, supervisor
from argosy_dev.board import UP, Entry, State
from argosy_dev.fleet import REPLACEABLE, Fleet, compose, endpoint, replaced
from argosy_dev.part import Part
from argosy_dev.processes import Birth
from argosy_dev.progress import Progress
from argosy_dev.refusals import Conflict, DiskFull, Missing, NotStarted, Refusal
from argosy_dev.state import Home, read_pairs, write_pairs
from argosy_dev.supervisor import Wanted

_FREE_BYTES = 1_000_000_000
_SECONDS = 300.0
_POLL_SECONDS = 0.05


def up(home: Home, only: Iterable[str] = (), progress: Progress | None = None) -> dict[str, str]:
    """Start what is not running yet and return `.argosy/env` as a mapping; safe to repeat.

    Raises a Refusal when something is missing, taken, full, or does not become ready.
    """
    progress = progress or Progress.quiet()
    _refuse_full_disk(home)
    home.create()
    with exclusive(home, progress):
        before = Wanted.read(home)
        if not supervisor.running(home):
            before = Wanted(before.generation)
        given = replaced(home)
        _refuse_conflict(before, given)
        yours = {**before.yours, **given}
        fleet = compose(home, yours)
        wanted = fleet.closure(tuple(only))
        _refuse_other_version(home, wanted)
        _refuse_unreachable(yours)
        _refuse_missing(fleet, wanted)
        _refuse_taken(home, fleet, wanted)
        request = Wanted(before.generation + 1, tuple(dict.fromkeys((*before.parts, *wanted))), yours)
        request.write(home)
        _follow(home, {name: fleet.parts[name] for name in wanted}, request.generation, progress, _wake(home))
        return write_env(home, fleet, request)


@contextmanager
def exclusive(home: Home, progress: Progress) -> Iterator[None]:
    """Let one `up` or `down` of this home work at a time."""
    with (home.root / "up.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("waiting for another `up` or `down` of this fleet")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_env(home: Home, fleet: Fleet, wanted: Wanted) -> dict[str, str]:
    """Write `.argosy/env`: the addresses of what runs, and the keys once they exist."""
    present = {*wanted.parts, *(REPLACEABLE[name] for name in wanted.yours if name in REPLACEABLE)}
    addresses = {name: value for name, value in fleet.addresses.items() if REPLACEABLE.get(name, "gateway") in present}
    pairs = addresses | (secrets.known_keys(home) if "gateway" in present else {})
    if pairs != read_pairs(home.env):
        write_pairs(home.env, pairs, comment="Addresses and keys of the running fleet. Written by `make up`.")
    return pairs


def _refuse_full_disk(home: Home) -> None:
    folder = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        raise DiskFull(
            f"{folder} has {free / 1e9:.1f} GB left and the fleet wants {_FREE_BYTES / 1e9:.0f} GB: make room first."
        )


def _refuse_conflict(before: Wanted, yours: Mapping[str, str]) -> None:
    """Refuse to put another part of the user's under services that run; what is not named now stays as it is."""
    if before.parts and (names := sorted(name for name in yours if before.yours.get(name) != yours[name])):
        raise Conflict(f"The fleet runs with another {' and '.join(names)}: run `make down` first.")


def _refuse_other_version(home: Home, wanted: Iterable[str]) -> None:
    """Refuse to ask a supervisor for parts that the code it was started from did not have."""
    if supervisor.running(home) and not board.read(home).known.issuperset(wanted):
        raise Conflict("The fleet was started by another version of this clone: run `make down` first.")


def _refuse_unreachable(yours: Mapping[str, str]) -> None:
    for variable, address in yours.items():
        if variable not in REPLACEABLE:
            continue
        host, port = endpoint(variable, address)
        try:
            socket.create_connection((host, port), timeout=3).close()
        except OSError as error:
            raise Refusal(f"{variable} points to {host}:{port}, where nobody answers.") from error


def _refuse_missing(fleet: Fleet, wanted: Iterable[str]) -> None:
    for name in wanted:
        if what := fleet.parts[name].missing():
            raise Missing(what)


def _refuse_taken(home: Home, fleet: Fleet, wanted: Iterable[str]) -> None:
    if supervisor.running(home):
        kept = set(board.read(home).entries)
    else:
        # What a killed supervisor left behind holds our own ports.
        kept = set()
        if left := supervisor.end_orphans(home):
            raise Refusal(f"Process {left[0].pid} of an earlier fleet cannot be ended.")
    for name in wanted:
        if name not in kept:
            ports.refuse_taken(home, fleet.parts[name].ports)


def _wake(home: Home) -> Birth:
    """Tell the supervisor to look at what is wanted, or start one; return it."""
    if daemon := supervisor.running(home):
        daemon.send(SIGHUP)
        return daemon
    log = str(home.log("supervisor"))
    where = {"ARGOSY_HOME": str(home.root), "ARGOSY_ASSETS": str(home.assets)}
    # Not subprocess: it would complain, rightly for a child, that this one outlives us.
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "argosy_dev", "supervise"],
        os.environ | where,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Birth.of(pid)


def _follow(home: Home, parts: Mapping[str, Part], generation: int, progress: Progress, daemon: Birth) -> None:
    """Show how the parts come up, until all serve or one has failed."""
    deadline = time.monotonic() + _SECONDS
    with progress:
        while True:
            now = board.read(home)
            if now.generation >= generation:
                entries = {name: now.entries.get(name, Entry()) for name in parts}
                progress.show({name: (parts[name], entry) for name, entry in entries.items()})
                if all(entry.state in UP for entry in entries.values()):
                    return
                for name, entry in entries.items():
                    if entry.state is State.FAILED:
                        raise NotStarted(_story(home, name, entry.detail, entry.log_from))
            if time.monotonic() > deadline or not daemon.alive():
                raise NotStarted(_story(home, "supervisor", "did not finish its work"))
            time.sleep(_POLL_SECONDS)


def _story(home: Home, part: str, reason: str, log_from: int = 0) -> str:
    lines = supervisor.last_lines(home.log(part), 12, log_from)
    shown = "".join(f"\n  | {line}" for line in lines)
    return f"{part}: {reason.removesuffix('.')}.{shown}\nThe whole log is {home.log(part)}; `make down` stops the rest."
