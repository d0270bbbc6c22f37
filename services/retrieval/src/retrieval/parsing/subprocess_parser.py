"""Parses documents in child processes: each in one of its own, short texts of one owner in one for all of them."""

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
from retrieval.parsing.shared_processes import MAX_BYTES, MAX_LINE_BYTES, SharedProcesses, is_spent, may_share
from retrieval.parsing.template_process import Fork, TemplateEnded, TemplateProcess

MAX_LOGGED_STDERR_BYTES = 2_000
PROCESSES = 2

log = logger("retrieval.parsing")


class _NotAlone(Exception):
    """The document was not parsed, maybe because of others before it or of the template's end: it is tried alone."""


class SubprocessParser:
    """Implements Parser, by processes with limits on memory, CPU and time. An async context manager.

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
        self._shared = SharedProcesses(lambda files: self._template.start("", limits, files, many=True))

    async def __aenter__(self) -> Self:
        await self._template.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shared.close()
        await self._template.__aexit__(kind, error, trace)

    async def blocks(
        self, filename: str, data: AsyncGenerator[bytes, None], owner: str = ""
    ) -> AsyncGenerator[Block | FileWarning, None]:
        async with aclosing(data):
            head = await _head(data)
            if owner and may_share(filename, head):
                found = self._share(owner, filename, head, data)
            else:
                found = self._own(filename, head, data)
            async with aclosing(found):
                async for item in found:
                    yield item

    async def _own(
        self, filename: str, head: bytes, rest: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[Block | FileWarning, None]:
        """The document in a process of its own, and in another one where that has ended with the template."""
        passed = 0
        with _workspace(), tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as stderr:
            await _spool(document, head, rest)
            try:
                async with aclosing(self._alone(filename, document, stderr)) as found:
                    async for item in found:
                        yield item
                        passed += 1
            except TemplateEnded:
                async with aclosing(_following(self._alone(filename, document, stderr), passed)) as found:
                    async for item in found:
                        yield item

    async def _alone(
        self, filename: str, document: IO[bytes], stderr: IO[bytes]
    ) -> AsyncGenerator[Block | FileWarning, None]:
        # A process that has ended may have read a part of it.
        await asyncio.to_thread(document.seek, 0)
        async with (
            self._free,
            self._child(filename, document, stderr) as (child, lines),
            aclosing(self._read(child, lines, stderr)) as found,
        ):
            async for line in found:
                if "end" in line:
                    return
                yield _line_to_block(line)

    async def _share(
        self, owner: str, filename: str, content: bytes, rest: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[Block | FileWarning, None]:
        """The document in a process that the owner's documents share. `rest` is exhausted."""
        passed = 0
        try:
            async with aclosing(self._shared_lines(owner, filename, content)) as found:
                async for item in found:
                    yield item
                    passed += 1
        except _NotAlone:
            async with aclosing(_following(self._own(filename, content, rest), passed)) as found:
                async for item in found:
                    yield item

    async def _shared_lines(
        self, owner: str, filename: str, content: bytes
    ) -> AsyncGenerator[Block | FileWarning, None]:
        with _workspace():
            async with self._free, self._shared.of(owner) as process:
                process.send(filename, content)
                try:
                    async with aclosing(self._read(process.fork, process.lines, process.stderr)) as found:
                        async for line in found:
                            if "end" in line:
                                process.ended_document = not is_spent(line)
                                return
                            yield _line_to_block(line)
                except TemplateEnded as error:
                    raise _NotAlone from error
                except UnindexableFile as error:
                    if process.documents > 1:
                        raise _NotAlone from error
                    raise

    async def _read(
        self, child: Fork, lines: asyncio.StreamReader, stderr: IO[bytes]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a document with its last one. Raises UnindexableFile when the process ends before that."""
        while line := await self._line(lines):
            if "no_sandbox" in line:
                self._warn_of_sandbox(line["no_sandbox"])
            else:
                yield line
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
        except ConnectionError:
            return None  # the process ended before it had read all
        if not line.endswith(b"\n"):
            return None
        parsed: dict[str, Any] = orjson.loads(line)
        return parsed


async def _following(
    items: AsyncGenerator[Block | FileWarning, None], passed: int
) -> AsyncGenerator[Block | FileWarning, None]:
    """What follows the first items, which another process has found already."""
    async with aclosing(items):
        async for item in items:
            passed -= 1
            if passed < 0:
                yield item


def _line_to_block(line: dict[str, Any]) -> Block | FileWarning:
    if "error" in line:
        raise UnindexableFile(IngestionErrorCode(line["error"]), line["message"])
    if "warning" in line:
        return FileWarning(line["warning"], line["message"])
    return Block(line["page"], line["text"])


async def _head(data: AsyncGenerator[bytes, None]) -> bytes:
    """A document that is short enough to share a process, or the beginning of a longer one."""
    head = b""
    async for piece in data:
        head += piece
        if len(head) > MAX_BYTES:
            break
    return head


async def _spool(document: IO[bytes], head: bytes, rest: AsyncGenerator[bytes, None]) -> None:
    await asyncio.to_thread(document.write, head)
    async for piece in rest:
        await asyncio.to_thread(document.write, piece)


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
