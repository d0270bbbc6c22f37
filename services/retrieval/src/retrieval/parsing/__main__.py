"""The child: reads the document on standard input, writes its blocks as JSON lines to standard output.

    {"page": 1, "text": "…"}                        a block
    {"refused": "encrypted_file", "message": "…"}   the last line, when the document cannot be read
    {"end": true}                                   the last line, when it was read to the end

It forks: the reader is bound by the limits, and the one who stays behind tells how the reader died.
"""

import json
import os
import resource
import signal
import sys
from typing import IO

from retrieval.adapters.parsers.formats import read
from retrieval.adapters.parsers.limits import Limits
from retrieval.domain.documents import FileRefused, Refusal

# A library that gets no memory crashes, or raises anything; whoever had so much of what is allowed wanted more.
GREEDY_SHARE = 0.25
TOO_MUCH_MEMORY = FileRefused(Refusal.FILE_EXPANDS_TOO_MUCH, "the file needs too much memory to be read")
TOO_MUCH_TIME = FileRefused(Refusal.FILE_EXPANDS_TOO_MUCH, "the file takes too long to read")
CRASHED = FileRefused(Refusal.UNREADABLE_FILE, "the file is damaged: its reader crashed")


def main(limits: Limits, filename: str) -> None:
    """Read, and say how it went."""
    # What a library prints must not get between the lines.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    reader = os.fork()
    if reader == 0:
        _read(lines, limits, filename)
        os._exit(0)
    _, status, usage = os.wait4(reader, 0)
    if os.WIFSIGNALED(status):
        _refuse(lines, _cause(os.WTERMSIG(status), usage, limits))


def _read(lines: IO[str], limits: Limits, filename: str) -> None:
    limits.apply()
    try:
        _write_blocks(lines, limits, filename)
    except FileRefused as refusal:
        _refuse(lines, refusal)
    except BrokenPipeError:
        return  # Nobody listens any more.
    except Exception as error:  # noqa: BLE001 - whatever a library raises, it could not read this document
        greedy = isinstance(error, MemoryError) or _greedy(resource.getrusage(resource.RUSAGE_SELF), limits)
        damaged = FileRefused(Refusal.UNREADABLE_FILE, f"the file is damaged ({type(error).__name__})")
        _refuse(lines, TOO_MUCH_MEMORY if greedy else damaged)
    else:
        _write(lines, {"end": True})


def _write_blocks(lines: IO[str], limits: Limits, filename: str) -> None:
    written = 0
    for block in read(sys.stdin.buffer, filename, limits):
        written += len(block.text)
        if written > limits.expanded_bytes:
            raise FileRefused(Refusal.FILE_EXPANDS_TOO_MUCH, "the file has too much text")
        _write(lines, {"page": block.page, "text": block.text})


def _cause(number: int, usage: resource.struct_rusage, limits: Limits) -> FileRefused:
    # Nobody else sends the first. The kernel's own count, which kills, runs a little before the one it reports.
    late = usage.ru_utime + usage.ru_stime >= 0.9 * limits.cpu_seconds
    if number == signal.SIGXCPU or (late and number == signal.SIGKILL):
        return TOO_MUCH_TIME
    return TOO_MUCH_MEMORY if _greedy(usage, limits) else CRASHED


def _greedy(usage: resource.struct_rusage, limits: Limits) -> bool:
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit > limits.memory_bytes * GREEDY_SHARE


def _refuse(lines: IO[str], refusal: FileRefused) -> None:
    _write(lines, {"refused": refusal.reason, "message": refusal.message})


def _write(lines: IO[str], line: dict[str, object]) -> None:
    lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    lines.flush()


if __name__ == "__main__":
    main(Limits.from_text(sys.argv[1]), sys.argv[2])
