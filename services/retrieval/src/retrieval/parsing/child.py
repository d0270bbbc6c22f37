"""The child process: parses the document on standard input and writes its blocks as JSON lines to standard output.

    {"page": 1, "text": "…"}                      a block
    {"no_sandbox": {"landlock": "…"}}             the first line, where the kernel lacks a filter
    {"warning": "pictures", "message": "…"}       what is left out
    {"error": "encrypted_file", "message": "…"}   the last line, when the document cannot be parsed
    {"end": true}                                 the last line, when the document was parsed to its end

It forks: the limits apply to the forked process, and the parent reports how that process ended.
"""

import os
import resource
import signal
import sys
from typing import IO

import orjson

from retrieval.parsing import sandbox
from retrieval.parsing.formats import read
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile

# A library that gets no more memory crashes or raises any exception. A process that used this share of its memory limit
# is taken for one that ran out of memory.
OOM_SHARE = 0.25
TOO_MUCH_MEMORY = UnindexableFile(
    IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file needs too much memory to be parsed"
)
TOO_MUCH_TIME = UnindexableFile(IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file takes too long to parse")
CRASHED = UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, "the file is damaged: its parser crashed")


def main(limits: Limits, filename: str) -> None:
    # Libraries may print to standard output: that goes to standard error instead.
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    child = os.fork()
    if child == 0:
        _parse(lines, limits, filename)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        _write_error(lines, _cause_of_death(os.WTERMSIG(status), usage, limits))


def _parse(lines: IO[bytes], limits: Limits, filename: str) -> None:
    limits.apply()
    missing = sandbox.enter()
    if missing:
        _write(lines, {"no_sandbox": missing})
    try:
        _write_blocks(lines, limits, filename)
    except UnindexableFile as error:
        _write_error(lines, error)
    except BrokenPipeError:
        return  # The service has closed the pipe.
    except Exception as error:  # noqa: BLE001 - libraries raise anything for a damaged document
        out_of_memory = isinstance(error, MemoryError) or _ran_out_of_memory(
            resource.getrusage(resource.RUSAGE_SELF), limits
        )
        damaged = UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, f"the file is damaged ({type(error).__name__})")
        _write_error(lines, TOO_MUCH_MEMORY if out_of_memory else damaged)
    else:
        _write(lines, {"end": True})


def _write_blocks(lines: IO[bytes], limits: Limits, filename: str) -> None:
    written = 0
    for block in read(sys.stdin.buffer, filename, limits):
        if isinstance(block, FileWarning):
            _write(lines, {"warning": block.code, "message": block.message})
            continue
        written += len(block.text)
        if written > limits.expanded_bytes:
            raise UnindexableFile(IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file has too much text")
        _write(lines, {"page": block.page, "text": block.text})


def _cause_of_death(number: int, usage: resource.struct_rusage, limits: Limits) -> UnindexableFile:
    # Only the CPU limit sends SIGXCPU. The kernel's count for the hard limit is slightly ahead of the reported one.
    at_cpu_limit = usage.ru_utime + usage.ru_stime >= 0.9 * limits.cpu_seconds
    if number == signal.SIGXCPU or (at_cpu_limit and number == signal.SIGKILL):
        return TOO_MUCH_TIME
    return TOO_MUCH_MEMORY if _ran_out_of_memory(usage, limits) else CRASHED


def _ran_out_of_memory(usage: resource.struct_rusage, limits: Limits) -> bool:
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit > limits.memory_bytes * OOM_SHARE


def _write_error(lines: IO[bytes], error: UnindexableFile) -> None:
    _write(lines, {"error": error.code, "message": error.message})


def _write(lines: IO[bytes], line: dict[str, object]) -> None:
    lines.write(orjson.dumps(line) + b"\n")
    lines.flush()


if __name__ == "__main__":
    main(Limits.from_json(sys.argv[1]), sys.argv[2])
