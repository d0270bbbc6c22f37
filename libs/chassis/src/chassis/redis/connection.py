"""One connection to Redis for all callers: commands are sent together, replies come back in the same order.

A command costs one future; there is no task or timer per command, only one timer for the connection.
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

MAX_IN_FLIGHT: Final = 8192  # commands
MAX_UNSENT_BYTES: Final = 1024 * 1024
UNRESPONSIVE_SECONDS: Final = 0.5  # the connection is closed when a command is overdue for this long
MIN_SWEEP_SECONDS: Final = 0.005
# Error replies that another node, or the same one later, would not give.
TRANSIENT_ERRORS: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "OOM")
# Redis 6 puts the place in the script before the error.
SCRIPT_ERROR_PREFIX: Final = re.compile(r"ERR Error running script .*?: -(?=[A-Z]+ )")

Argument = bytes | str | int | float


class Connection(asyncio.Protocol):
    """Calls `on_success` for replies in time, `on_failure` for others; the future `lost` is done at the end."""

    def __init__(self, timeout_seconds: float, on_success: Callable[[], None], on_failure: Callable[[], None]) -> None:
        self._timeout = timeout_seconds
        self._on_success = on_success
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        # Otherwise timers would run in the context of the request that set them, and log its ids.
        self._context = copy_context()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._reader = hiredis.Reader()
        self._unsent: list[bytes] = []
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._paused = False

    def send(self, arguments: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Send a command at the end of this event loop turn; the future has its reply. Raises `Unavailable`."""
        if self._transport is None:
            raise Unavailable("redis is not connected")
        if self._paused or len(self._pending) >= MAX_IN_FLIGHT:
            raise Unavailable("redis does not keep up")
        packed = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub says one argument; it takes any
        if not self._unsent:
            self._loop.call_soon(self._flush, context=self._context)
        self._unsent.append(packed)
        reply = self._loop.create_future()
        due = self._loop.time() + self._timeout
        self._pending.append((reply, due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fail_overdue, context=self._context)
        return reply

    def set_timeout(self, seconds: float) -> None:
        """Set the timeout of the commands that are sent from now on; call it while none is pending."""
        self._timeout = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close the connection; pending commands fail with `Unavailable`."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.set_write_buffer_limits(MAX_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Match each reply with the oldest pending command."""
        self._reader.feed(data)
        in_time = False
        try:
            while (value := self._reader.gets()) is not False:
                reply, _ = self._pending.popleft()
                if reply.done():
                    continue  # it was overdue, or its caller was cancelled
                if isinstance(value, hiredis.ReplyError):
                    in_time = self._fail(reply, str(value)) or in_time
                else:
                    reply.set_result(value)
                    in_time = True
        except (hiredis.ProtocolError, IndexError):
            self.close()  # not a Redis, or replies and commands no longer match: no reply can be trusted
        if in_time:
            self._on_success()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        for reply, _ in self._pending:
            if not reply.done():
                reply.set_exception(Unavailable("redis closed the connection"))
        self._pending.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _fail(self, reply: asyncio.Future[Any], message: str) -> bool:
        """Fail a command by an error reply; returns whether Redis itself is healthy."""
        reason = SCRIPT_ERROR_PREFIX.sub("", message)
        if not reason.startswith(TRANSIENT_ERRORS):
            reply.set_exception((NoScriptError if message.startswith("NOSCRIPT") else ResponseError)(message))
            return True
        reply.set_exception(Unavailable("redis cannot do this now"))
        self._on_failure()
        if reason.startswith("READONLY"):
            self.close()  # after a fail-over this is a replica; reconnecting may find the new primary
        return False

    def _fail_overdue(self) -> None:
        """Fail overdue commands. They stay in the queue, because their replies may still arrive and must be matched."""
        now = self._loop.time()
        self._timer = None
        late = False
        next_due = now + self._timeout
        for reply, due in self._pending:
            if due > now:
                next_due = due
                break
            if not reply.done():
                reply.set_exception(Unavailable("redis does not answer in time"))
                late = True
        if late:
            self._on_failure()
        if not self._pending:
            return
        if now - self._pending[0][1] >= UNRESPONSIVE_SECONDS:
            self.close()
            return
        next_sweep = max(next_due, now + MIN_SWEEP_SECONDS)
        self._timer = self._loop.call_at(next_sweep, self._fail_overdue, context=self._context)
