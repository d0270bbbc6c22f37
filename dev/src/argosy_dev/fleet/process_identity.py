"""Processes, told apart from strangers that got the same number.

A process id alone is not an identity: after a crash or a reboot it may belong to somebody else. Every record therefore
keeps the moment of birth beside it, and nothing is signalled unless both match.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Birth:
    """One process, for ever."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Birth:
        """Take the identity of the living process `pid`; raises psutil.NoSuchProcess when there is none."""
        return cls(pid, _born(pid))

    def alive(self) -> bool:
        """Say whether this very process still runs; a zombie does not."""
        try:
            return _born(self.pid) == self.born and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def tree(self) -> set[Birth]:
        """Return this process and its living descendants; empty when it is gone."""
        if not self.alive():
            return set()
        family = {self}
        with suppress(psutil.Error):
            for child in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.Error):
                    family.add(Birth.of(child.pid))
        return family

    def send(self, number: signal.Signals) -> None:
        """Signal this very process, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def end(asked: Mapping[Birth, signal.Signals], *, grace: float) -> list[Birth]:
    """Ask each process to end by its signal, kill them all with their descendants after `grace` seconds.

    Returns what remains nevertheless.
    """
    family: set[Birth] = set().union(*(birth.tree() for birth in asked))
    for birth, number in asked.items():
        birth.send(number)
    if wait_gone(family, grace):
        return []
    for birth in family:
        birth.send(signal.SIGKILL)
    wait_gone(family, 5)
    return [birth for birth in family if birth.alive()]


def wait_gone(births: Iterable[Birth], seconds: float) -> bool:
    """Wait until none of the processes runs; say whether that came true in time."""
    deadline = time.monotonic() + seconds
    left = set(births)
    while left := {birth for birth in left if birth.alive()}:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _born(pid: int) -> str:
    """Return what tells two holders of one process id apart.

    On Linux the kernel's start tick and the boot, which no change of the wall clock moves; elsewhere the start time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from None
        return str(psutil.Process(pid).create_time())
    except ProcessLookupError:
        raise psutil.NoSuchProcess(pid) from None
    # The command name may hold spaces and brackets; the fields after the last bracket do not.
    return f"{_boot()}:{stat.rpartition(')')[2].split()[19]}"
