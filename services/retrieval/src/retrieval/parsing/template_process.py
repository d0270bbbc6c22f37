"""The service's end of the template of parsing processes."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath
from types import TracebackType
from typing import Any, Self

import orjson
from chassis.errors import Unavailable
from chassis.telemetry import logger

from retrieval.parsing.endings import Ending
from retrieval.parsing.limits import Limits
from retrieval.parsing.messages import LENGTH, IncompleteMessage, send_at_once

TEMPLATE_MODULE = "retrieval.parsing"
# A template answers within milliseconds. One that does not is killed, with all its forks.
TIMEOUT_SECONDS = 20.0
MAX_SUFFIX = 16

log = logger("retrieval.parsing")


class TemplateEnded(Unavailable, public=False):
    """The template has ended, and its forks with it. Another one can parse the document."""

    reason = "PARSER_TEMPLATE_ENDED"


class Fork:
    """A process that parses one document."""

    def __init__(self, connection: "_Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        """How it ended. Raises Unavailable when it was never started, TemplateEnded when its template is gone."""

    async def kill(self) -> None:
        """Kill the process, if it still runs, and wait until it is gone."""
        if not self.ended.done():
            self._connection.kill(self._number)
            await asyncio.wait([self.ended], timeout=TIMEOUT_SECONDS)
        if not self.ended.done():
            log.error("parser_template_hangs")
            self._connection.process.kill()
            await asyncio.wait([self.ended])
        # How it ended matters to no caller now.
        self.ended.cancelled() or self.ended.exception()


class TemplateProcess:
    """Starts the template, and starts it again after its end. An async context manager.

    preload: import the parsers at the start; otherwise each fork imports what it needs.
    """

    def __init__(self, *, preload: bool = True) -> None:
        self._preload = preload
        self._connection: _Connection | None = None
        self._closed = False
        self._number = 0

    async def __aenter__(self) -> Self:
        self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    def start(self, filename: str, limits: Limits, files: tuple[int, int, int], *, many: bool = False) -> Fork:
        """Parse a document. `files` are those for the document, its blocks and its errors. Raises Unavailable.

        `many`: the process parses documents that come one after the other, until the first file ends.
        """
        try:
            return self._start(self._running(), filename, limits, files, many=many)
        except ConnectionError:
            # The template has ended, and its end was not read yet.
            self._connection = None
        try:
            return self._start(self._running(), filename, limits, files, many=many)
        except OSError as error:
            raise _not_started(error) from error

    def _start(
        self, connection: "_Connection", filename: str, limits: Limits, files: tuple[int, int, int], *, many: bool
    ) -> Fork:
        """Raises ConnectionError when the template has ended, Unavailable when it reads nothing."""
        self._number += 1
        fork = Fork(connection, self._number)
        # Not the name: the memory of the template is copied to the process of each later document.
        name = f"document{PurePath(filename).suffix.lower()[:MAX_SUFFIX]}"
        request = {"id": self._number, "filename": name, "limits": limits.to_json(), "many": many}
        try:
            connection.send(request, files)
        except ConnectionError:
            raise
        except OSError as error:
            raise _not_started(error) from error
        connection.forks[self._number] = fork
        return fork

    def _running(self) -> "_Connection":
        if self._closed:
            raise Unavailable("the service stops")
        if self._connection is None or self._connection.lost:
            self._connection = _Connection(preload=self._preload)
        return self._connection


def _not_started(error: OSError) -> Unavailable:
    return Unavailable(f"cannot start a process to parse a document: {error.strerror}")


class _Connection:
    """A template that runs, and the connection to it."""

    def __init__(self, *, preload: bool) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        command = [sys.executable, "-I", "-m", TEMPLATE_MODULE, str(theirs.fileno()), *(["preload"] * preload)]
        try:
            # Not with asyncio's subprocess, which forks: a fork runs gRPC's fork handlers, which crash occasionally.
            # Popen uses vfork, which runs none. It blocks for the millisecond until exec.
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, env={}, pass_fds=[theirs.fileno()], start_new_session=True
            )
        except OSError as error:
            self.socket.close()
            raise Unavailable(f"cannot start a process to parse documents: {error.strerror}") from error
        finally:
            theirs.close()
        self.forks: dict[int, Fork] = {}
        self.lost = False
        self._reading = asyncio.create_task(self._read())

    def kill(self, number: int) -> None:
        with suppress(OSError):  # a template that is gone took its forks with it
            self.send({"kill": number})

    def send(self, message: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send at once. Raises OSError; after a part of a message the template is of no more use, and is killed."""
        try:
            send_at_once(self.socket, message, files)
        except IncompleteMessage:
            self.process.kill()
            raise

    async def close(self) -> None:
        """End the template, which kills its forks."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        await asyncio.wait([self._reading], timeout=TIMEOUT_SECONDS)
        if not self._reading.done():
            self.process.kill()
            await self._reading

    async def _read(self) -> None:
        """Pass on how forks ended, until the template has ended or what it sends cannot be read."""
        try:
            await self._read_reports()
        except Exception:
            log.exception("parser_template_report_unreadable")
            self.process.kill()
        self.lost = True
        self.socket.close()
        await asyncio.to_thread(self.process.wait)
        for fork in self.forks.values():
            if not fork.ended.done():
                fork.ended.set_exception(TemplateEnded("the template of parsing processes has ended"))
        self.forks.clear()

    async def _read_reports(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = b""
        with suppress(OSError):
            while piece := await loop.sock_recv(self.socket, 65_536):
                waiting += piece
                while len(waiting) >= LENGTH.size:
                    end = LENGTH.size + LENGTH.unpack_from(waiting)[0]
                    if len(waiting) < end:
                        break
                    self._report(orjson.loads(waiting[LENGTH.size : end]))
                    waiting = waiting[end:]

    def _report(self, report: dict[str, Any]) -> None:
        number = report.pop("id")
        fork = self.forks.get(number)
        if fork is not None and not fork.ended.done():
            if "refused" in report:
                message = f"cannot start a process to parse a document: {report['refused']}"
                fork.ended.set_exception(Unavailable(message))
            else:
                fork.ended.set_result(Ending(**report))
        # Last: after a report that cannot be read, it is among those that fail.
        self.forks.pop(number, None)
