"""Identifies processes by pid and start time.

The kernel reuses pids after a crash or a reboot. Every record therefore keeps the start time too, and a process gets a
signal only when both match.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, distinct from later ones with the same pid."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of the running process `pid`; raises psutil.NoSuchProcess when there is none."""
        return cls(pid, _start_of(pid))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read a record; older versions called the start time `born`."""
        return cls(content["pid"], content.get("started") or content["born"])

    def alive(self) -> bool:
        """Return whether this process still runs; a zombie does not."""
        try:
            return _start_of(self.pid) == self.started and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def tree(self) -> "set[ProcessIdentity]":
        """Return this process and its running descendants; empty when it has exited."""
        if not self.alive():
            return set()
        family: set[ProcessIdentity] = {self}
        with suppress(psutil.Error):
            for child in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.Error):
                    family.add(ProcessIdentity.of(child.pid))
        return family

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if this process still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def stop_processes(signals: Mapping[ProcessIdentity, signal.Signals], *, grace_seconds: float) -> list[ProcessIdentity]:
    """Send each process its signal; after the grace, kill all of them and their descendants.

    Returns the processes that still run.
    """
    family: set[ProcessIdentity] = set().union(*(process.tree() for process in signals))
    for process, number in signals.items():
        process.send(number)
    if wait_until_ended(family, grace_seconds):
        return []
    for process in family:
        process.send(signal.SIGKILL)
    wait_until_ended(family, 5)
    return [process for process in family if process.alive()]


def wait_until_ended(processes: Iterable[ProcessIdentity], timeout_seconds: float) -> bool:
    """Wait until none of the processes runs; return False after the time-out."""
    deadline = time.monotonic() + timeout_seconds
    left = set(processes)
    while left := {process for process in left if process.alive()}:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _start_of(pid: int) -> str:
    """Return the start time of a process.

    On Linux that is the kernel's start tick with the boot id, which a change of the wall clock does not affect.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from None
        return str(psutil.Process(pid).create_time())
    except ProcessLookupError:
        raise psutil.NoSuchProcess(pid) from None
    # The command name may contain spaces and parentheses; the fields after the last parenthesis do not.
    return f"{_boot()}:{stat.rpartition(')')[2].split()[19]}"
