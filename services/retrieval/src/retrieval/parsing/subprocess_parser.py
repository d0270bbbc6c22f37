"""Parses each document in a child process of its own."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from types import TracebackType
from typing import IO, Any, Self

import orjson
from chassis.errors import Unavailable
from chassis.telemetry import logger

from retrieval.parsing.endings import TOO_MUCH_TIME, to_error
from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, FileWarning, IngestionErrorCode, UnindexableFile
from retrieval.parsing.template_process import Fork, TemplateProcess

MAX_LINE_BYTES = 1024 * 1024
MAX_LOGGED_STDERR_BYTES = 2_000
PROCESSES = 2

log = logger("retrieval.parsing")


class SubprocessParser:
    """Implements Parser. Each document gets a process with limits on memory, CPU and time. An async context manager.

    The processes are forks of a template that has imported the parsers and has read no document. The pipe bounds how
    far a process runs ahead, so a slow consumer of blocks costs no memory. A process has no environment variables and
    no open files but the document and its output.

    processes: documents that are parsed at the same time; others wait.
    preload: import the parsers at the start; otherwise each process imports what it needs.
    """

    def __init__(self, limits: Limits, processes: int = PROCESSES, *, preload: bool = True) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(processes)
        self._template = TemplateProcess(preload=preload)
        self._warned_of_sandbox = False

    async def __aenter__(self) -> Self:
        await self._template.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._template.__aexit__(kind, error, trace)

    async def blocks(
        self, filename: str, data: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[Block | FileWarning, None]:
        with _workspace(), tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as stderr:
            await _spool(document, data)
            async with self._free, self._child(filename, document, stderr) as (child, lines):
                while line := await self._line(lines):
                    if "end" in line:
                        return
                    if "no_sandbox" in line:
                        self._warn_of_sandbox(line["no_sandbox"])
                        continue
                    yield _line_to_block(line)
                # The output ended without a last line: the process was killed.
                ending = await child.ended
                _log_crash(ending.signal, stderr)
                raise to_error(ending, self._limits)

    @asynccontextmanager
    async def _child(
        self, filename: str, document: IO[bytes], stderr: IO[bytes]
    ) -> AsyncIterator[tuple[Fork, asyncio.StreamReader]]:
        """The process and its output. The process is killed at the end of the block."""
        reading, writing = os.pipe()
        output = os.fdopen(reading, "rb", buffering=0)
        try:
            child = self._template.start(filename, self._limits, (document.fileno(), writing, stderr.fileno()))
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        try:
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), output
            )
            with closing(pipe):
                yield child, lines
        finally:
            await child.kill()

    def _warn_of_sandbox(self, missing: dict[str, str]) -> None:
        """Once, because it is the same for every document."""
        if not self._warned_of_sandbox:
            self._warned_of_sandbox = True
            log.warning("parser_sandbox_incomplete", missing=missing)

    async def _line(self, lines: asyncio.StreamReader) -> dict[str, Any] | None:
        """The next line of output, or None at its end."""
        try:
            async with asyncio.timeout(self._limits.block_seconds):
                line = await lines.readline()
        except TimeoutError:
            raise TOO_MUCH_TIME from None
        if not line.endswith(b"\n"):
            return None
        parsed: dict[str, Any] = orjson.loads(line)
        return parsed


def _line_to_block(line: dict[str, Any]) -> Block | FileWarning:
    if "error" in line:
        raise UnindexableFile(IngestionErrorCode(line["error"]), line["message"])
    if "warning" in line:
        return FileWarning(line["warning"], line["message"])
    return Block(line["page"], line["text"])


async def _spool(document: IO[bytes], data: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(data):
        async for piece in data:
            await asyncio.to_thread(document.write, piece)
    await asyncio.to_thread(document.seek, 0)


@contextmanager
def _workspace() -> Iterator[None]:
    """Raise Unavailable for a full disk. It may show only when a temporary file is closed."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"no disk space to parse a document: {error.strerror}") from error


def _log_crash(signal: int, stderr: IO[bytes]) -> None:
    stderr.seek(max(stderr.seek(0, os.SEEK_END) - MAX_LOGGED_STDERR_BYTES, 0))
    log.warning("parser_crashed", signal=signal, stderr=stderr.read().decode(errors="replace"))
