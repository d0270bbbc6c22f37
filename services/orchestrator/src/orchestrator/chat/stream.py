"""Between the task that runs a plan and the client that listens."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

E = TypeVar("E")


class Outlet(Generic[E]):
    """Payloads on their way to one client: what waits travels together, and a slow client slows the provider down.

    One task puts and ends, another takes. A client that goes away `abandon`s it; the task that puts is told at once,
    and goes on to its end without anybody listening.
    """

    def __init__(self, most_bytes: int, *, at_once: bool = True) -> None:
        """With `most_bytes` waiting, `put` waits too. Without `at_once` the taker hears only of that, or of the end.

        An answer that is not streamed is of no use before its end, so all of it may travel as one message.
        """
        self._most_bytes = most_bytes
        self._at_once = at_once
        self._waiting: list[bytes] = []
        self._size = 0
        self._over = False
        self._end: E | None = None
        self._failure: BaseException | None = None
        self._on_abandon: Callable[[], None] | None = None
        # Made only by those who have to wait: an answer that is not streamed waits twice, and many a chunk never.
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.abandoned = False

    async def put(self, payloads: Sequence[bytes]) -> None:
        """Hand payloads over, and wait while too much waits. Nothing is kept once the client is gone."""
        if self.abandoned:
            return
        self._waiting.extend(payloads)
        self._size += sum(map(len, payloads))
        if self._at_once or self._size >= self._most_bytes:
            _wake(self._news)
        while self._size >= self._most_bytes and not self.abandoned:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def over(self) -> None:
        """Nothing more comes but the end, so there is nothing left to hang up on."""
        self._over = True

    def end(self, end: E) -> None:
        """Let the client have the end, after what waits."""
        self._over, self._end = True, end
        _wake(self._news)

    def fail(self, failure: BaseException) -> None:
        """Raise `failure` to the client, after what waits."""
        self._over, self._failure = True, failure
        _wake(self._news)

    async def take(self) -> Sequence[bytes] | E:
        """Wait for payloads and return all that wait, or the end. Raises what `fail` was given."""
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._end is not None:
                return self._end
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        taken, self._waiting, self._size = self._waiting, [], 0
        _wake(self._room)
        return taken

    @property
    def _ready(self) -> bool:
        """Whether what waits may go."""
        ended = self._end is not None or self._failure is not None
        return bool(self._waiting) and (self._at_once or ended or self._size >= self._most_bytes)

    def when_abandoned(self, call: Callable[[], None]) -> None:
        """Call `call` once, as soon as the client is gone, even if it already is."""
        if self.abandoned:
            call()
        else:
            self._on_abandon = call

    def abandon(self) -> None:
        """Say that nobody listens any more. Without effect once the plan is over, and the second time."""
        if self.abandoned or self._over:
            return
        self.abandoned = True
        self._waiting, self._size = [], 0
        _wake(self._room)
        if self._on_abandon is not None:
            self._on_abandon()


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)
