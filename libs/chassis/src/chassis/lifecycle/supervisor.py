"""A small parent process that forks the service, and forks it again when a signal has killed it.

A new interpreter takes more than a second of CPU to import a service; a fork has all of it imported. The parent never
has threads, an event loop, clients or sockets, so that no lock and no connection of them is copied.

The process that a service manager sees is the parent. It passes signals on, reaps what a container's process 1 adopts,
and ends with the child's status. The child is in a process group of its own: what a terminal or a manager sends to the
group reaches it once, through the parent. It dies with the parent.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from chassis.ids import new_id
from chassis.telemetry import logger

FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""They have the effect that they have without a parent: a child that one of them kills is not replaced."""

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""After one of these no child is replaced, whatever ends it."""

MAX_FAILED_STARTS: Final = 3
"""Children in a row that were killed before they were ready. Then the service manager is to see it."""
RESTART_DELAY_SECONDS: Final = 0.2
"""Before a child is replaced that was not ready; doubles with each."""
MAX_RESTARTS: Final = 20
RESTART_WINDOW_SECONDS: Final = 60.0
"""A service whose children are killed more often than `MAX_RESTARTS` times in it has no use of a further one."""

PR_SET_PDEATHSIG: Final = 1
SIGNALLED: Final = 128
"""Added to the number of the signal that killed a process, as shells do."""

Serve = Callable[[Callable[[], None]], int]
"""Serves until it is stopped, and returns the exit code; calls its argument when it is ready."""

log = logger("chassis.lifecycle")


@dataclass(frozen=True, slots=True)
class Supervised:
    """What a child knows of its parent."""

    family: str
    """The same for all children of a parent, one of which lives at a time. Unique."""
    restarts: int
    """How many children were killed before."""


_supervised: Supervised | None = None


def supervised() -> Supervised | None:
    """Return what this process knows of its parent; None when it runs without one."""
    return _supervised


def supervise(serve: Serve) -> int:
    """Run `serve` in a child; return the exit code, in the parent and in each child.

    The process must have one thread. Elsewhere than on Linux `serve` runs in this process.
    """
    if sys.platform != "linux":
        return serve(lambda: None)
    return _Supervisor(serve).run()


@dataclass(slots=True)
class _Supervisor:
    serve: Serve
    family: str = field(default_factory=lambda: new_id(""))
    child: int = 0
    restarts: int = 0
    failed_starts: int = 0
    passed_on: set[int] = field(default_factory=set)
    """Signals that the child got."""
    killed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESTARTS))

    @property
    def stopping(self) -> bool:
        return not STOPS.isdisjoint(self.passed_on)

    def run(self) -> int:
        # The program that started this one may have ignored it: the kernel would then reap the children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A collection would write to the pages that parent and children share.
        gc.collect()
        gc.freeze()
        watched = {*FORWARDED, signal.SIGCHLD}
        # Blocked signals wait until `sigtimedwait` takes them, so that none is missed around a fork. Process 1 of a
        # container gets them too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        while True:
            ready, write_ready = os.pipe()
            if (code := self._fork(write_ready, ready, before)) is not None:
                return code
            os.close(write_ready)
            status = self._wait()
            # What a child of the child keeps open must not be waited for.
            os.set_blocking(ready, False)
            was_ready = _read(ready)
            os.close(ready)
            if (code := self._judge(status, was_ready=was_ready)) is not None:
                return code

    def _fork(self, write_ready: int, ready: int, mask: Iterable[int]) -> int | None:
        """Fork; in the child, serve and return the exit code. None in the parent."""
        _flush()
        parent = os.getpid()
        child = os.fork()
        if child:
            self.child = child
            return None
        global _supervised  # noqa: PLW0603 - of the process
        _supervised = Supervised(self.family, self.restarts)
        os.close(ready)
        os.setpgid(0, 0)
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self.serve(lambda: os.close(write_ready) if _write(write_ready) else None)

    def _wait(self) -> int:
        """Pass signals on until the child has ended; return its wait status."""
        while (status := self._reap()) is None:
            self._take_signal(None)
        return status

    def _reap(self) -> int | None:
        """Reap what has ended; return the status of the child if it is among it."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self.child:
                found, self.child = status, 0

    def _take_signal(self, seconds: float | None) -> None:
        watched = {*FORWARDED, signal.SIGCHLD}
        taken = signal.sigwaitinfo(watched) if seconds is None else signal.sigtimedwait(watched, seconds)
        if taken is None or taken.si_signo == signal.SIGCHLD:
            return
        self.passed_on.add(taken.si_signo)
        if self.child:
            os.kill(self.child, taken.si_signo)

    def _judge(self, status: int, *, was_ready: bool) -> int | None:
        """Return the exit code; None when the child is to be replaced now."""
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        killed_by = _name_of(-code)
        if self.stopping or -code in self.passed_on:
            return SIGNALLED - code
        now = time.monotonic()
        self.failed_starts = 0 if was_ready else self.failed_starts + 1
        often = len(self.killed_at) == MAX_RESTARTS and now - self.killed_at[0] < RESTART_WINDOW_SECONDS
        if often or self.failed_starts == MAX_FAILED_STARTS:
            log.critical("service_given_up", signal=killed_by, ready=was_ready, restarts=self.restarts)
            return SIGNALLED - code
        self.killed_at.append(now)
        self.restarts += 1
        log.error("service_killed", signal=killed_by, ready=was_ready, restarts=self.restarts)
        if self.failed_starts and self._is_stopped_within(RESTART_DELAY_SECONDS * 2 ** (self.failed_starts - 1)):
            return SIGNALLED - code
        return None

    def _is_stopped_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            self._take_signal(left)
            self._reap()
        return self.stopping


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, and end now if it has ended before."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Not compared with 1: in a container the parent may be just that.
    if os.getppid() != parent:
        os._exit(SIGNALLED + signal.SIGKILL)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal


def _write(descriptor: int) -> bool:
    return os.write(descriptor, b"1") == 1


def _read(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 1) != b""
    except BlockingIOError:
        return False


def _flush() -> None:
    """Write what is buffered: else the child would write it, too."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
