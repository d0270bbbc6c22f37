"""One connection to Redis that many use at once: commands go out together, replies come back in their order.

Nobody has a task or a timer of their own: a future for each command, and one timer for the connection.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, cast

import hiredis
from redis.exceptions import NoScriptError, ResponseError

from chassis.errors import Unavailable

MOST_IN_FLIGHT: Final = 8192  # commands
MOST_UNSENT_BYTES: Final = 1024 * 1024
SILENCE_SECONDS: Final = 0.5  # with a command unanswered for so long, the connection is given up
SHORTEST_SWEEP_SECONDS: Final = 0.005
# Answers that say: not here, not now. Another node, or a later moment, may do it.
NOT_NOW: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "OOM")
# Before what a script stumbled over, Redis 6 tells where it did.
WHERE_IN_SCRIPT: Final = re.compile(r"ERR Error running script .*?: -(?=[A-Z]+ )")

Argument = bytes | str | int | float


class Connection(asyncio.Protocol):
    """`heard` is called when commands were answered in time, `missed` when some were not; `lost` is done at the end."""

    def __init__(self, patience_seconds: float, heard: Callable[[], None], missed: Callable[[], None]) -> None:
        self._patience = patience_seconds
        self._heard = heard
        self._missed = missed
        self._loop = asyncio.get_running_loop()
        # Timers would run in the context of whoever started them, and log in the name of that request.
        self._context = copy_context()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._reader = hiredis.Reader()
        self._outbox: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._clogged = False

    def send(self, arguments: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Put a command; it leaves when this turn of the loop is over. Raises Unavailable at once when it cannot."""
        if self._transport is None:
            raise Unavailable("redis is not connected")
        if self._clogged or len(self._waiting) >= MOST_IN_FLIGHT:
            raise Unavailable("redis does not keep up")
        packed = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub says one argument; it takes any
        if not self._outbox:
            self._loop.call_soon(self._flush, context=self._context)
        self._outbox.append(packed)
        answer = self._loop.create_future()
        due = self._loop.time() + self._patience
        self._waiting.append((answer, due))
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(due, self._sweep, context=self._context)
        return answer

    def close(self) -> None:
        """Drop the connection; what waits is Unavailable."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.set_write_buffer_limits(MOST_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Give each reply to the oldest command."""
        self._reader.feed(data)
        in_time = False
        try:
            while (reply := self._reader.gets()) is not False:
                answer, _ = self._waiting.popleft()
                if answer.done():
                    continue  # too late, or nobody waits any more
                if isinstance(reply, hiredis.ReplyError):
                    in_time = self._refuse(answer, str(reply)) or in_time
                else:
                    answer.set_result(reply)
                    in_time = True
        except (hiredis.ProtocolError, IndexError):
            self.close()  # this is not Redis, or we have lost count: no answer can be trusted
        if in_time:
            self._heard()

    def pause_writing(self) -> None:
        """Redis does not read."""
        self._clogged = True

    def resume_writing(self) -> None:
        """Redis reads again."""
        self._clogged = False

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self._transport = None
        if self._sweeper is not None:
            self._sweeper.cancel()
        for answer, _ in self._waiting:
            if not answer.done():
                answer.set_exception(Unavailable("redis has gone"))
        self._waiting.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._outbox))
        self._outbox.clear()

    def _refuse(self, answer: asyncio.Future[Any], said: str) -> bool:
        """Fail a command; say whether Redis is well all the same."""
        reason = WHERE_IN_SCRIPT.sub("", said)
        if not reason.startswith(NOT_NOW):
            answer.set_exception((NoScriptError if said.startswith("NOSCRIPT") else ResponseError)(said))
            return True
        answer.set_exception(Unavailable("redis cannot do this now"))
        self._missed()
        if reason.startswith("READONLY"):
            self.close()  # a fail-over left us with a replica; the name may lead to the new primary
        return False

    def _sweep(self) -> None:
        """Fail what waits for too long; its replies are still counted, so that the others find theirs."""
        now = self._loop.time()
        self._sweeper = None
        late = False
        next_due = now + self._patience
        for answer, due in self._waiting:
            if due > now:
                next_due = due
                break
            if not answer.done():
                answer.set_exception(Unavailable("redis does not answer in time"))
                late = True
        if late:
            self._missed()
        if not self._waiting:
            return
        if now - self._waiting[0][1] >= SILENCE_SECONDS:
            self.close()
            return
        next_sweep = max(next_due, now + SHORTEST_SWEEP_SECONDS)
        self._sweeper = self._loop.call_at(next_sweep, self._sweep, context=self._context)
