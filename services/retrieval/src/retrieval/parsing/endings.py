"""How the process that parsed a document ended, and what that says of the document."""

import resource
import signal
import sys
from dataclasses import dataclass

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import IngestionErrorCode, UnindexableFile

# A library that gets no more memory crashes or raises any exception. A process that used this share of its memory limit
# is taken for one that ran out of memory.
OOM_SHARE = 0.25
TOO_MUCH_MEMORY = UnindexableFile(
    IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file needs too much memory to be parsed"
)
TOO_MUCH_TIME = UnindexableFile(IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file takes too long to parse")
CRASHED = UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, "the file is damaged: its parser crashed")


@dataclass(frozen=True, slots=True)
class Ending:
    """The signal that killed a process, or 0; its seconds of CPU, and the most memory that it used."""

    signal: int
    cpu_seconds: float
    peak_bytes: int


def to_error(ending: Ending, limits: Limits) -> UnindexableFile:
    """Why a process ended before its document did."""
    # Only the CPU limit sends SIGXCPU. The kernel's count for the hard limit is slightly ahead of the reported one.
    at_cpu_limit = ending.cpu_seconds >= 0.9 * limits.cpu_seconds
    if ending.signal == signal.SIGXCPU or (at_cpu_limit and ending.signal == signal.SIGKILL):
        return TOO_MUCH_TIME
    return TOO_MUCH_MEMORY if needed_too_much_memory(ending.peak_bytes, limits) else CRASHED


def needed_too_much_memory(peak: int, limits: Limits) -> bool:
    return peak > limits.memory_bytes * OOM_SHARE


def peak_bytes(usage: resource.struct_rusage) -> int:
    """The most memory that a process has used."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
