"""The machine: its cores, what it is, and who may open how many files."""

import os
import platform
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SUBJECT, AROUND = 0, 1
"""The core of what is measured, and the core of everything that takes part beside it."""


def can_pin() -> bool:
    """Say whether there are two cores, and a way to choose."""
    return hasattr(os, "sched_setaffinity") and {SUBJECT, AROUND} <= os.sched_getaffinity(0)


def pin(pid: int, core: int) -> None:
    """Put every thread of a process and of its descendants on one core; what they start later stays there."""
    with suppress(psutil.Error):
        for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            for thread in _threads(member.pid):
                with suppress(OSError):  # it ended meanwhile
                    os.sched_setaffinity(thread, {core})


def _threads(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    return []


def allow_many_files() -> None:
    """Let this process and what it starts open as many files as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe() -> dict[str, Any]:
    """Say what this machine is."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "pinned": can_pin(),
    }


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Name the commit that is measured, with a mark when the tree differs from it."""
    with suppress(OSError):
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
        return done.stdout.strip() or "unknown"
    return "unknown"
