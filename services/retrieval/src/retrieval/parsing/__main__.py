"""The template of parsing processes: it has imported the parsers, reads no document, and forks a process for each one.

A fork has what the template has: modules, and nothing of another document. The template has no threads, no environment
variables and no open files but its connection to the service, which a fork closes first.

    python -I -m retrieval.parsing FD [preload]

On the connection, each after its length in four bytes:

    {"id": 1, "filename": "a.pdf", "limits": "…", "many": false}
            with the files for the document, its blocks and its errors: parse it, or the documents that come in the file
    {"kill": 1}                                     kill the process of this document
    {"id": 1, "signal": 9, "cpu_seconds": 1.5, "peak_bytes": 4096}   to the service: the process has ended
    {"id": 1, "refused": "…"}                                        to the service: there can be no process
"""

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from retrieval.parsing import child, sandbox
from retrieval.parsing.endings import peak_bytes
from retrieval.parsing.formats import preload
from retrieval.parsing.limits import Limits
from retrieval.parsing.messages import receive, send

FILES = 3
# The template opens fewer, beside the connection, which keeps the number that it had in the service. The system's limit
# may be a billion, and closing them all takes long.
MAX_OPEN_FILES = 256


class Template:
    """Forks a process for each request, and reports how each of them ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pids: dict[int, int] = {}
        """Numbers of documents by process."""
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> None:
        """Serve until the service closes the connection."""
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._connection, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._reap()
            if self._connection in ready:
                request, files = receive(self._connection, FILES)
                if request is None:
                    break
                self._handle(request, files)
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)

    def _handle(self, request: dict[str, Any], files: list[int]) -> None:
        if "kill" in request:
            for pid, number in self._pids.items():
                if number == request["kill"]:
                    os.kill(pid, signal.SIGKILL)
            return
        template = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            send(self._connection, {"id": request["id"], "refused": error.strerror})
        else:
            if pid == 0:
                self._run(
                    template, files, request["filename"], Limits.from_json(request["limits"]), many=request["many"]
                )
            self._pids[pid] = request["id"]
        for file in files:
            os.close(file)

    def _run(self, template: int, files: list[int], filename: str, limits: Limits, *, many: bool) -> NoReturn:
        """In the fork. All but its three files are closed, so that it can ask nothing of the template."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            sandbox.die_with_parent(template)
            document, output, errors = files
            os.dup2(document, 0)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            # Libraries may print to standard output: that goes to standard error instead.
            lines = os.dup(1)
            os.dup2(2, 1)
            os.dup2(lines, 3)
            os.closerange(4, max(MAX_OPEN_FILES, self._connection.fileno() + 1))
            if many:
                child.parse_many(os.fdopen(0, "rb"), os.fdopen(3, "wb"), limits)
            else:
                child.parse(os.fdopen(0, "rb"), os.fdopen(3, "wb"), filename, limits)
        except BaseException:  # noqa: BLE001 - a fork never returns to the loop of the template
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                report = {
                    "id": self._pids.pop(pid),
                    "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_bytes": peak_bytes(usage),
                }
                send(self._connection, report)


if __name__ == "__main__":
    if sys.argv[2:] == ["preload"]:
        preload()
        # Forks share the memory of what is never collected.
        gc.collect()
        gc.freeze()
    with suppress(BrokenPipeError, ConnectionResetError):
        Template(socket.socket(fileno=int(sys.argv[1]))).serve()
