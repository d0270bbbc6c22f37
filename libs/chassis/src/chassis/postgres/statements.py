"""Single statements, each a transaction of its own: one round trip where BEGIN, statement and COMMIT are three."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from chassis.postgres.failures import AWAY, UNREACHABLE, unavailable

ACQUIRE_SECONDS = 5.0
CLOSE_SECONDS = 2.0


class Line:
    """A connection of one's own and the statements prepared on it."""

    __slots__ = ("_prepared", "wire")

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self._prepared: dict[str, Any] = {}

    async def fetch(self, query: str, args: tuple[Any, ...]) -> list[Any]:
        """Run the statement; it is parsed the first time only."""
        statement = self._prepared.get(query)
        if statement is None:
            statement = self._prepared[query] = await self.wire.prepare(query)
        rows: list[Any] = await statement.fetch(*args)
        return rows


class Statements:
    """Runs statements on connections that it keeps; `connect` makes one, and there are at most `size`."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], name: str, size: int) -> None:
        self._connect = connect
        self._name = name
        self._turns = asyncio.Semaphore(size)
        self._free: list[Line] = []

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement and commit it; `query` is a constant, because it stays prepared.

        Raises `Unavailable` when Postgres does not answer; whether the statement was committed is then unknown.
        """
        await self._turn()
        try:
            line = await self._line()
            try:
                rows = await line.fetch(query, args)
            except BaseException as error:
                # Postgres refused, so the connection is as good as before; in all other cases nobody knows.
                if isinstance(error, asyncpg.PostgresError) and not isinstance(error, AWAY):
                    self._keep(line)
                else:
                    await _abandon(line)
                if isinstance(error, (*AWAY, asyncpg.InterfaceError)):
                    raise unavailable(self._name, error) from error
                raise
            self._keep(line)
            return rows
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Close what is kept."""
        lines, self._free = self._free, []
        for line in lines:
            await _abandon(line)

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise unavailable(self._name, error) from error

    async def _line(self) -> Line:
        while self._free:
            line = self._free.pop()
            if not line.wire.is_closed():
                return line
        try:
            return Line(await self._connect())
        except UNREACHABLE as error:
            raise unavailable(self._name, error) from error

    def _keep(self, line: Line) -> None:
        if not line.wire.is_closed():
            self._free.append(line)


async def _abandon(line: Line) -> None:
    # Closing tells Postgres to stop what still runs there; a server that does not listen is left to itself.
    try:
        await line.wire.close(timeout=CLOSE_SECONDS)
    except (*AWAY, asyncpg.InterfaceError):
        line.wire.terminate()
