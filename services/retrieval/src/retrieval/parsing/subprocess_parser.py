"""The parser that the service sees: a child process per document."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from typing import IO, Any

from chassis.errors import Unavailable
from chassis.telemetry import logger

from retrieval.adapters.parsers.limits import Limits
from retrieval.domain.documents import Block, FileRefused, Refusal

LONGEST_LINE_BYTES = 1024 * 1024
COMPLAINT_BYTES = 2_000
CHILD = "retrieval.adapters.parsers"

log = logger("retrieval.parsers")


class ChildProcessParser:
    """Gives each document to a process of its own that may take so much memory, CPU and time, and no more.

    The child runs only as far ahead as a pipe holds, so a slow reader of its blocks costs no memory. It is given no
    environment, and inherits no open file but the document.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def blocks(self, filename: str, data: AsyncGenerator[bytes, None]) -> AsyncGenerator[Block, None]:
        """See Parser."""
        with _room(), tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as complaints:
            await _fill(document, data)
            async with self._child(filename, document, complaints) as (child, lines):
                while line := await self._line(lines):
                    if "end" in line:
                        return
                    yield _block(line)
                # Neither the reader nor who waits for it could say a last word.
                _complain(await asyncio.to_thread(child.wait), complaints)
                raise FileRefused(Refusal.UNREADABLE_FILE, "the file is damaged: its reader crashed")

    @asynccontextmanager
    async def _child(
        self, filename: str, document: IO[bytes], complaints: IO[bytes]
    ) -> AsyncIterator[tuple[subprocess.Popen[bytes], asyncio.StreamReader]]:
        """The process, which does not outlive the block, and what it says."""
        command = [sys.executable, "-I", "-m", CHILD, self._limits.to_text(), filename]
        try:
            # Not through the event loop, which forks: a fork runs gRPC's handlers, and now and then crashes in them.
            # Popen uses vfork, which runs none; it blocks for the millisecond until the child is another program.
            child = subprocess.Popen(  # noqa: ASYNC220, S603 - see above; our own program
                command, stdin=document, stdout=subprocess.PIPE, stderr=complaints, env={}, start_new_session=True
            )
        except OSError as error:
            raise Unavailable(f"no process for reading a document: {error.strerror}") from error
        lines = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
        try:
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), child.stdout
            )
            with closing(pipe):
                yield child, lines
        finally:
            await _end(child)

    async def _line(self, lines: asyncio.StreamReader) -> dict[str, Any] | None:
        """What the child says next, or None when it is gone."""
        try:
            async with asyncio.timeout(self._limits.block_seconds):
                line = await lines.readline()
        except TimeoutError:
            raise FileRefused(Refusal.FILE_EXPANDS_TOO_MUCH, "the file takes too long to read") from None
        if not line.endswith(b"\n"):
            return None
        said: dict[str, Any] = json.loads(line)
        return said


def _block(line: dict[str, Any]) -> Block:
    if "refused" in line:
        raise FileRefused(Refusal(line["refused"]), line["message"])
    return Block(line["page"], line["text"])


async def _fill(document: IO[bytes], data: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(data):
        async for piece in data:
            await asyncio.to_thread(document.write, piece)
    await asyncio.to_thread(document.seek, 0)


@contextmanager
def _room() -> Iterator[None]:
    """A full disk is the machine's fault, not the document's, also where it shows only when a file is closed."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"no room for reading a document: {error.strerror}") from error


def _complain(exit_code: int, complaints: IO[bytes]) -> None:
    complaints.seek(max(complaints.seek(0, os.SEEK_END) - COMPLAINT_BYTES, 0))
    log.warning("reader_crashed", exit_code=exit_code, stderr=complaints.read().decode(errors="replace"))


async def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the child and its reader, which are a process group."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    await asyncio.to_thread(child.wait)
