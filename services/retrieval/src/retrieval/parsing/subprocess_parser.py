"""Parses each document in a child process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from typing import IO, Any

import orjson
from chassis.errors import Unavailable
from chassis.telemetry import logger

from retrieval.parsing.limits import Limits
from retrieval.parsing.model import Block, FileWarning, IngestionErrorCode, UnindexableFile

MAX_LINE_BYTES = 1024 * 1024
MAX_LOGGED_STDERR_BYTES = 2_000
CHILD_MODULE = "retrieval.parsing"

log = logger("retrieval.parsing")


class SubprocessParser:
    """Implements Parser. Each document gets a process with limits on memory, CPU and time.

    The pipe bounds how far the child runs ahead, so a slow consumer of blocks costs no memory. The child gets no
    environment variables and no open files but the document and its output.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._warned_of_sandbox = False

    async def blocks(
        self, filename: str, data: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[Block | FileWarning, None]:
        with _workspace(), tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as stderr:
            await _spool(document, data)
            async with self._child(filename, document, stderr) as (child, lines):
                while line := await self._line(lines):
                    if "end" in line:
                        return
                    if "no_sandbox" in line:
                        self._warn_of_sandbox(line["no_sandbox"])
                        continue
                    yield _line_to_block(line)
                # The output ended without a last line: the child and its fork were both killed.
                _log_crash(await asyncio.to_thread(child.wait), stderr)
                raise UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, "the file is damaged: its parser crashed")

    @asynccontextmanager
    async def _child(
        self, filename: str, document: IO[bytes], stderr: IO[bytes]
    ) -> AsyncIterator[tuple[subprocess.Popen[bytes], asyncio.StreamReader]]:
        """The process and its output. The process is killed at the end of the block."""
        command = [sys.executable, "-I", "-m", CHILD_MODULE, self._limits.to_json(), filename]
        try:
            # Not with asyncio's subprocess, which forks: a fork runs gRPC's fork handlers, which crash occasionally.
            # Popen uses vfork, which runs none. It blocks for the millisecond until exec.
            child = subprocess.Popen(  # noqa: ASYNC220, S603 - see above; our own program
                command, stdin=document, stdout=subprocess.PIPE, stderr=stderr, env={}, start_new_session=True
            )
        except OSError as error:
            raise Unavailable(f"cannot start a process to parse a document: {error.strerror}") from error
        lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        try:
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), child.stdout
            )
            with closing(pipe):
                yield child, lines
        finally:
            await _kill(child)

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
            raise UnindexableFile(
                IngestionErrorCode.FILE_EXPANDS_TOO_MUCH, "the file takes too long to parse"
            ) from None
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


def _log_crash(exit_code: int, stderr: IO[bytes]) -> None:
    stderr.seek(max(stderr.seek(0, os.SEEK_END) - MAX_LOGGED_STDERR_BYTES, 0))
    log.warning("parser_crashed", exit_code=exit_code, stderr=stderr.read().decode(errors="replace"))


async def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill the child and its fork, which are one process group."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    await asyncio.to_thread(child.wait)
