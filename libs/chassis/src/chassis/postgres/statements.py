"""Transactions of one prepared statement: one round trip, where BEGIN, statement and COMMIT are three."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from chassis.postgres.failures import CONNECT_ERRORS, UNAVAILABLE_ERRORS, unavailable

ACQUIRE_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 2.0


class PreparedConnection:
    """A connection and the statements prepared on it."""

    __slots__ = ("_prepared", "connection")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._prepared: dict[str, Any] = {}

    async def fetch(self, query: str, args: tuple[Any, ...]) -> list[Any]:
        """Run the statement, and prepare it first if it is new on this connection."""
        statement = self._prepared.get(query)
        if statement is None:
            statement = self._prepared[query] = await self.connection.prepare(query)
        rows: list[Any] = await statement.fetch(*args)
        return rows


class Statements:
    """Runs statements on its own connections; `connect` opens one, and there are at most `size`."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], name: str, size: int) -> None:
        self._connect = connect
        self._name = name
        self._slots = asyncio.Semaphore(size)
        self._free: list[PreparedConnection] = []

    async def open(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement and commit it; `query` is a constant, because it stays prepared.

        Raises `Unavailable` when Postgres does not answer; whether the statement was committed is then unknown.
        """
        await self._acquire_slot()
        try:
            prepared = await self._get()
            try:
                rows = await prepared.fetch(query, args)
            except BaseException as error:
                # After an error reply of Postgres the connection is usable; after any other error its state is unknown.
                if isinstance(error, asyncpg.PostgresError) and not isinstance(error, UNAVAILABLE_ERRORS):
                    self._put_back(prepared)
                else:
                    await _close(prepared)
                if isinstance(error, (*UNAVAILABLE_ERRORS, asyncpg.InterfaceError)):
                    raise unavailable(self._name, error) from error
                raise
            self._put_back(prepared)
            return rows
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Close the free connections."""
        connections, self._free = self._free, []
        for prepared in connections:
            await _close(prepared)

    async def _acquire_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_SECONDS):
                await self._slots.acquire()
        except TimeoutError as error:
            raise unavailable(self._name, error) from error

    async def _get(self) -> PreparedConnection:
        while self._free:
            prepared = self._free.pop()
            if not prepared.connection.is_closed():
                return prepared
        try:
            return PreparedConnection(await self._connect())
        except CONNECT_ERRORS as error:
            raise unavailable(self._name, error) from error

    def _put_back(self, prepared: PreparedConnection) -> None:
        if not prepared.connection.is_closed():
            self._free.append(prepared)


async def _close(prepared: PreparedConnection) -> None:
    # `close` cancels a running statement; with an unresponsive server the connection is only dropped.
    try:
        await prepared.connection.close(timeout=CLOSE_TIMEOUT_SECONDS)
    except (*UNAVAILABLE_ERRORS, asyncpg.InterfaceError):
        prepared.connection.terminate()
