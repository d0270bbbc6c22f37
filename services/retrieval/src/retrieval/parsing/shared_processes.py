"""Processes that parse short texts one after the other, for one owner each.

A fork for each document costs more than to parse a short one. Only documents that Python and Rust read share a process,
no format of a library in C, and only those of one owner. See ADR 49.
"""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, Any

import orjson

from retrieval.parsing.template_process import MAX_SUFFIX, Fork

MAX_BYTES = 64 * 1024
# A process that had so many documents is replaced.
MAX_DOCUMENTS = 200
IDLE_SECONDS = 2.0
# Files of several tenants come in turns, so their processes wait for each other. One that waits has a few megabytes.
MAX_IDLE = 8
MAX_LINE_BYTES = 1024 * 1024

_TEXTS = frozenset({".txt", ".text", ".csv", ".tsv", ".json", ".jsonl"})
_MARKDOWN = frozenset({".md", ".markdown"})

StartFork = Callable[[tuple[int, int, int]], Fork]
"""Starts a fork that reads documents from the first of these files, one after the other."""


def may_share(filename: str, content: bytes) -> bool:
    """Whether the document is read without a library in C."""
    suffix = PurePath(filename).suffix.lower()
    if len(content) > MAX_BYTES:
        return False
    # HTML in Markdown is read by such a library. In other encodings another byte might be its bracket.
    return suffix in _TEXTS or (suffix in _MARKDOWN and b"<" not in content and _is_utf_8(content))


@dataclass(slots=True)
class SharedProcess:
    """A process with the connection to it."""

    fork: Fork
    lines: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stderr: IO[bytes]
    documents: int = 0
    ended_document: bool = False
    """Whether the last document was read to its end, so that the next one may follow."""

    def send(self, filename: str, content: bytes) -> None:
        """Begin the next document. A process that has ended shows at the next line."""
        self.documents += 1
        self.ended_document = False
        suffix = PurePath(filename).suffix.lower()[:MAX_SUFFIX]
        self.writer.write(orjson.dumps({"suffix": suffix, "bytes": len(content)}) + b"\n" + content)

    async def close(self) -> None:
        self.writer.close()
        await self.fork.kill()
        self.stderr.close()


@dataclass
class SharedProcesses:
    """At most `MAX_IDLE` processes wait for the next document of their owner, for a short time."""

    start: StartFork
    _idle: dict[str, tuple[SharedProcess, asyncio.TimerHandle]] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[SharedProcess]:
        """A process for one document of the owner. It is ended unless the document was read to its end."""
        waiting = self._idle.pop(owner, None)
        if waiting is not None:
            waiting[1].cancel()
        process = waiting[0] if waiting else await self._open()
        try:
            yield process
        finally:
            if process.ended_document and process.documents < MAX_DOCUMENTS:
                self._keep(owner, process)
            else:
                await process.close()

    async def close(self) -> None:
        for owner in list(self._idle):
            self._end(owner)
        await asyncio.gather(*self._closing)

    async def _open(self) -> SharedProcess:
        ours, theirs = socket.socketpair()
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            fork = self.start((theirs.fileno(), theirs.fileno(), stderr.fileno()))
        except BaseException:
            ours.close()
            stderr.close()
            raise
        finally:
            theirs.close()
        try:
            lines, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        except BaseException:
            ours.close()
            await fork.kill()
            raise
        return SharedProcess(fork, lines, writer, stderr)

    def _keep(self, owner: str, process: SharedProcess) -> None:
        if owner in self._idle:
            self._end(owner)
        while len(self._idle) >= MAX_IDLE:
            self._end(next(iter(self._idle)))
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end, owner)
        self._idle[owner] = process, timer

    def _end(self, owner: str) -> None:
        process, timer = self._idle.pop(owner)
        timer.cancel()
        task = asyncio.create_task(process.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def is_spent(line: dict[str, Any]) -> bool:
    """Whether the process said with its last line that it takes no further document."""
    return bool(line.get("spent"))


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
