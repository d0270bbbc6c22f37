"""The machine: cores, description, limit of open files."""

import os
import platform
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SUBJECT, AROUND = 0, 1
"""The core of the measured processes, and the core of all others."""


def can_pin() -> bool:
    """Whether there are two cores and the system can pin processes."""
    return hasattr(os, "sched_setaffinity") and {SUBJECT, AROUND} <= os.sched_getaffinity(0)


def pin(pid: int, core: int) -> None:
    """Pin every thread of a process and its descendants to one core; later threads inherit it."""
    with suppress(psutil.Error):
        for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            for thread in _threads(member.pid):
                with suppress(OSError):  # it has ended
                    os.sched_setaffinity(thread, {core})


def _threads(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    return []


def allow_many_files() -> None:
    """Raise the limit of open files to the maximum, for this process and its children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe() -> dict[str, Any]:
    """Describe this machine."""
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
    """The measured commit, with a mark if the tree differs from it."""
    with suppress(OSError):
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
        return done.stdout.strip() or "unknown"
    return "unknown"
