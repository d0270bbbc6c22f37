from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from argosy_dev.processes import Birth, end, wait_gone

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
    """Run a line of Python and wait for its first word."""
    with subprocess.Popen([sys.executable, "-I", "-c", line], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_this_process_is_alive() -> None:
    assert Birth.of(os.getpid()).alive()


def test_another_process_with_the_same_number_is_a_stranger() -> None:
    stranger = Birth(os.getpid(), "another boot:1")

    assert not stranger.alive()
    assert stranger.tree() == set()


def test_a_stranger_is_never_signalled() -> None:
    with running("import time; print('ready', flush=True); time.sleep(60)") as (process, _):
        stranger = Birth(process.pid, "another boot:1")

        assert end({stranger: signal.SIGTERM}, grace=0) == []

        assert process.poll() is None


def test_a_number_without_a_process_has_no_birth() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        Birth.of(2**22 + 1)


def test_a_zombie_is_not_alive() -> None:
    with running("print('ready')") as (process, _):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        assert not Birth.of(process.pid).alive()


def test_a_process_that_ignores_the_request_is_killed_after_its_grace() -> None:
    with running(STUBBORN) as (process, _):
        assert end({Birth.of(process.pid): signal.SIGTERM}, grace=0.1) == []

        assert process.wait() == -signal.SIGKILL


def test_descendants_end_with_their_parent() -> None:
    with running(PARENT) as (process, child):
        grandchild = Birth.of(int(child))

        assert end({Birth.of(process.pid): signal.SIGTERM}, grace=0.2) == []

        assert not grandchild.alive()


def test_waiting_for_a_living_process_gives_up_in_time() -> None:
    assert not wait_gone([Birth.of(os.getpid())], 0.05)
