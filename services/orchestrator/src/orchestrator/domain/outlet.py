"""Between the task that runs a plan and the client that listens."""

import asyncio
from collections.abc import Callable, Sequence


class Outlet:
    """Payloads on their way to one client: what waits travels together, and a slow client slows the provider down.

    One task puts and ends, another takes. A client that goes away `abandon`s it; the task that puts is told at once,
    and goes on to its end without anybody listening.
    """

    def __init__(self, most_bytes: int) -> None:
        """With `most_bytes` waiting, `put` waits too."""
        self._most_bytes = most_bytes
        self._waiting: list[bytes] = []
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._on_abandon: Callable[[], None] | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.abandoned = False

    async def put(self, payloads: Sequence[bytes]) -> None:
        """Hand payloads over, and wait while too much waits. Nothing is kept once the client is gone."""
        if self.abandoned:
            return
        self._waiting.extend(payloads)
        self._size += sum(map(len, payloads))
        self._news.set()
        while self._size >= self._most_bytes and not self.abandoned:
            self._room.clear()
            await self._room.wait()

    def end(self, failure: BaseException | None = None) -> None:
        """Nothing more comes; `failure` is raised to the client after what waits."""
        self._ended, self._failure = True, failure
        self._news.set()

    async def take(self) -> Sequence[bytes]:
        """Wait for payloads and return all that wait; empty at the end. Raises what `end` was given."""
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        taken, self._waiting, self._size = self._waiting, [], 0
        self._room.set()
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def when_abandoned(self, call: Callable[[], None]) -> None:
        """Call `call` once, as soon as the client is gone, even if it already is."""
        if self.abandoned:
            call()
        else:
            self._on_abandon = call

    def abandon(self) -> None:
        """Say that nobody listens any more. Without effect at the end, and the second time."""
        if self.abandoned or self._ended:
            return
        self.abandoned = True
        self._waiting, self._size = [], 0
        self._room.set()
        if self._on_abandon is not None:
            self._on_abandon()
