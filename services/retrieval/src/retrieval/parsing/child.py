"""Parses documents, in a process of its own, and writes their blocks as JSON lines.

{"page": 1, "text": "…"}                      a block
{"no_sandbox": {"landlock": "…"}}             the first line, where the kernel lacks a filter
{"warning": "pictures", "message": "…"}       what is left out
{"error": "encrypted_file", "message": "…"}   the last line, when the document cannot be parsed
{"end": true}                                 the last line, when the document was parsed to its end
{"end": true, "spent": false}                 the same, in a process that takes further documents unless it is spent
"""

import resource
from contextlib import suppress
from io import BytesIO
from typing import IO, BinaryIO

import orjson

from retrieval.parsing import sandbox
from retrieval.parsing.endings import TOO_MUCH_MEMORY, needed_too_much_memory, peak_bytes
from retrieval.parsing.formats import read
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import FileWarning, IngestionErrorCode, UnindexableFile

# Of its limit of CPU, what the documents before may have used of the next one's.
CPU_SHARE = 0.1


def parse(document: BinaryIO, lines: IO[bytes], filename: str, limits: Limits) -> None:
    """Parse the document under the limits, which apply to this process from now on."""
    _enter(lines, limits)
    with suppress(BrokenPipeError):  # the service has closed the pipe
        if _parse(document, lines, filename, limits):
            _write(lines, {"end": True})


def parse_many(documents: BinaryIO, lines: IO[bytes], limits: Limits) -> None:
    """Parse documents that come one after the other, each after a line with its suffix and size, until they end.

    The first one that cannot be parsed is the last. The limits are for all of them together, so a process that has used
    a share of its CPU takes no further one.
    """
    _enter(lines, limits)
    with suppress(BrokenPipeError):
        while request := documents.readline():
            about = orjson.loads(request)
            content = BytesIO(documents.read(about["bytes"]))
            if not _parse(content, lines, f"document{about['suffix']}", limits):
                return
            usage = resource.getrusage(resource.RUSAGE_SELF)
            spent = usage.ru_utime + usage.ru_stime > CPU_SHARE * limits.cpu_seconds
            _write(lines, {"end": True, "spent": spent})
            if spent:
                return


def _enter(lines: IO[bytes], limits: Limits) -> None:
    limits.apply()
    missing = sandbox.enter()
    if missing:
        _write(lines, {"no_sandbox": missing})


def _parse(document: BinaryIO, lines: IO[bytes], filename: str, limits: Limits) -> bool:
    """Write the blocks of the document, or why it cannot be parsed. Raises BrokenPipeError."""
    try:
        _write_blocks(document, lines, filename, limits)
    except UnindexableFile as error:
        _write_error(lines, error)
        return False
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - libraries raise anything for a damaged document
        peak = peak_bytes(resource.getrusage(resource.RUSAGE_SELF))
        out_of_memory = isinstance(error, MemoryError) or needed_too_much_memory(peak, limits)
        damaged = UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, f"the file is damaged ({type(error).__name__})")
        _write_error(lines, TOO_MUCH_MEMORY if out_of_memory else damaged)
        return False
    return True


def _write_blocks(document: BinaryIO, lines: IO[bytes], filename: str, limits: Limits) -> None:
    written = 0
    for block in read(document, filename, limits):
        if isinstance(block, FileWarning):
            _write(lines, {"warning": block.code, "message": block.message})
            continue
        written += len(block.text)
        if written > limits.expanded_bytes:
            raise UnindexableFile(IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file has too much text")
        _write(lines, {"page": block.page, "text": block.text})


def _write_error(lines: IO[bytes], error: UnindexableFile) -> None:
    _write(lines, {"error": error.code, "message": error.message})


def _write(lines: IO[bytes], line: dict[str, object]) -> None:
    lines.write(orjson.dumps(line) + b"\n")
    lines.flush()
