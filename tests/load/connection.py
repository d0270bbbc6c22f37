"""One keep-alive connection of the load generator: sends requests, reads responses, counts events."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httptools

EVENT = b"\ndata:"
DONE = b"data: [DONE]"
_TAIL = 32


@dataclass(slots=True)
class Answer:
    """The response to one request; times are of the monotonic clock."""

    due: float
    """When the request was due: latency counts from here, even if it was sent later."""
    streamed: bool
    status: int = 0
    ended: float = 0.0
    first: float = 0.0
    """When the first event arrived; 0 before."""
    latest: float = 0.0
    events: int = 0
    gaps: list[float] = field(default_factory=list)
    """Times between reads with events; events of one read have no gap."""
    problem: str = ""
    _tail: bytes = b"\n"

    def read(self, part: bytes, now: float) -> None:
        """Process a part of the body that arrived `now`."""
        if self.status != 200:
            self.problem = (self.problem or f"status {self.status}: ") + part[:200].decode(errors="replace")
        if not self.streamed:
            return
        # The tail is shorter than the pattern, so no event is counted twice.
        count = (self._tail[-len(EVENT) + 1 :] + part).count(EVENT)
        self._tail = (self._tail + part)[-_TAIL:] if len(part) < _TAIL else part[-_TAIL:]
        if not count:
            return
        self.events += count
        if not self.first:
            self.first = now
        elif now > self.latest:
            self.gaps.append(now - self.latest)
        self.latest = now

    def end(self, now: float) -> None:
        """End the response; a stream that ended with an error event has no end mark."""
        self.ended = now
        if self.status != 200:
            self.problem = self.problem or f"status {self.status}"
        elif self.streamed and DONE not in self._tail:
            self.problem = "the stream ended without [DONE]"


class Connection(asyncio.Protocol):
    """Sends one request at a time; calls `finished` with every response, complete or not."""

    def __init__(self, finished: Callable[["Connection", Answer], None]) -> None:
        self._finished = finished
        self._transport: Any = None
        self._parser: Any = None
        self._now = 0.0
        self.answer: Answer | None = None

    @property
    def usable(self) -> bool:
        """Whether it can send a request."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: tuple[bytes, bytes], due: float, *, streamed: bool) -> None:
        self.answer = Answer(due, streamed)
        self._parser = httptools.HttpResponseParser(self)
        self._transport.writelines(request)

    def abort(self) -> None:
        """Close without a shutdown."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.answer is None:
            return
        self._now = monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"the connection broke: {error or 'closed by the server'}")

    def on_status(self, _: bytes) -> None:
        assert self.answer is not None
        self.answer.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        assert self.answer is not None
        self.answer.read(part, self._now)

    def on_message_complete(self) -> None:
        assert self.answer is not None
        answer, self.answer = self.answer, None
        answer.end(self._now)
        if not self._parser.should_keep_alive():
            self._transport.close()
        # Not inside the parser: the next request creates a new one.
        asyncio.get_running_loop().call_soon(self._finished, self, answer)

    def _end(self, problem: str) -> None:
        if self.answer is not None:
            answer, self.answer = self.answer, None
            answer.ended, answer.problem = monotonic(), problem
            self._finished(self, answer)
