from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from argosy_dev.fleet.process_identity import ProcessIdentity, stop_processes, wait_until_ended

STUBBORN = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, '-I', '-c', {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def running(line: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a line of Python and wait for its first line of output."""
    with subprocess.Popen([sys.executable, "-I", "-c", line], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_this_process_is_alive() -> None:
    assert ProcessIdentity.of(os.getpid()).alive()


def test_another_process_with_the_same_pid_has_another_identity() -> None:
    other = ProcessIdentity(os.getpid(), "another boot:1")

    assert not other.alive()
    assert other.tree() == set()


def test_another_process_with_the_same_pid_gets_no_signal() -> None:
    with running("import time; print('ready', flush=True); time.sleep(60)") as (process, _):
        other = ProcessIdentity(process.pid, "another boot:1")

        assert stop_processes({other: signal.SIGTERM}, grace_seconds=0) == []

        assert process.poll() is None


def test_an_unused_pid_has_no_identity() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        ProcessIdentity.of(2**22 + 1)


def test_a_zombie_is_not_alive() -> None:
    with running("print('ready')") as (process, _):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        assert not ProcessIdentity.of(process.pid).alive()


def test_a_process_that_ignores_the_signal_is_killed_after_the_grace() -> None:
    with running(STUBBORN) as (process, _):
        assert stop_processes({ProcessIdentity.of(process.pid): signal.SIGTERM}, grace_seconds=0.1) == []

        assert process.wait() == -signal.SIGKILL


def test_descendants_are_stopped_with_their_parent() -> None:
    with running(PARENT) as (process, child):
        grandchild = ProcessIdentity.of(int(child))

        assert stop_processes({ProcessIdentity.of(process.pid): signal.SIGTERM}, grace_seconds=0.2) == []

        assert not grandchild.alive()


def test_waiting_for_a_running_process_times_out() -> None:
    assert not wait_until_ended([ProcessIdentity.of(os.getpid())], 0.05)
