"""Connections whose only door is a transaction that says which tenant it is for."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Any, Self

import asyncpg

from chassis.errors import InvalidRequest
from chassis.postgres.failures import AWAY, DEAD, UNREACHABLE, unavailable
from chassis.postgres.statements import Statements
from chassis.settings import PostgresSection

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
EVERY_TENANT = "*"

# How long to wait, in seconds: for a free connection, for a new one, for a lock, for one statement (the server gives
# up first; the client's limit is for a server that says nothing any more), for the end of an abandoned transaction.
ACQUIRE_SECONDS = 5.0
CONNECT_SECONDS = 3.0
LOCK_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
CLIENT_SECONDS = 12.0
ABANDON_SECONDS = 2.0


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """An asyncpg connection that sets the tenant in the round trip that begins a transaction."""

    __slots__ = ("_prelude",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prelude = ""

    def scope(self, tenant: str) -> Self:
        """Make the next BEGIN set `argosy.tenant` for its transaction; `tenant` was checked and needs no quoting."""
        self._prelude = f";SELECT set_config('argosy.tenant', '{tenant}', true)"
        return self

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement, as asyncpg does."""
        if self._prelude and query.startswith("BEGIN"):
            # Without arguments, statements travel as one message however many they are: one round trip, not two.
            query, self._prelude = query.rstrip(";") + self._prelude, ""
        status: str = await super().execute(query, *args, timeout=timeout)
        if status == "ROLLBACK" and query.startswith("COMMIT"):
            # A statement failed, somebody swallowed it, and Postgres answers COMMIT by rolling back, politely.
            raise asyncpg.InFailedSQLTransactionError("a failed statement was ignored, so nothing was committed")
        return status


class Database:
    """The service's own schema, reached as its app role; an async context manager.

    Opening it does not connect: a service starts while Postgres is away and says so by its readiness. Whatever means
    "does not answer" becomes `Unavailable`; wrong SQL and broken constraints keep asyncpg's exceptions.
    """

    def __init__(self, section: PostgresSection, name: str) -> None:
        self._section = section
        self._name = name
        self._pool: Any = None
        self._statements = Statements(self._connect_for_everybody, name, section.pool_size)

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            min_size=0,
            max_size=self._section.pool_size,
            connection_class=Connection,
            # asyncpg's reset costs a round trip per release and undoes session state that nobody sets here:
            # what we set is local to its transaction.
            reset=_leave_as_it_is,
            **self._access(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._statements.close()
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._pool.close()
        except (*AWAY, asyncpg.InterfaceError):
            self._pool.terminate()

    def tenant(self, tenant_id: str) -> Transaction:
        """Open a transaction that sees and writes the rows of one tenant only.

        Raises `InvalidRequest` for a malformed id, `Unavailable` when Postgres does not answer.
        """
        if TENANT.fullmatch(tenant_id) is None:
            raise InvalidRequest("the tenant id is malformed", param="tenant_id")
        return Transaction(self._pool, self._name, tenant_id)

    def system(self) -> SystemTransaction:
        """Open a transaction over all tenants: for sweepers, relays and key look-ups, each on a reviewed list."""
        return SystemTransaction(self._pool, self._name, self._statements)

    async def ping(self) -> None:
        """Return when Postgres answers; raise `Unavailable` when it does not."""
        async with self.system() as connection:
            await connection.execute("SELECT 1")

    async def _connect_for_everybody(self) -> Any:
        # Apart from the pool, so that nothing of a tenant ever runs where every tenant is the session's own setting.
        return await asyncpg.connect(**self._access(**{"argosy.tenant": EVERY_TENANT}))

    def _access(self, **settings: str) -> dict[str, Any]:
        return {
            "dsn": self._section.dsn.get_secret_value(),
            "timeout": CONNECT_SECONDS,
            "command_timeout": CLIENT_SECONDS,
            "server_settings": {
                "application_name": self._name,
                "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
                "lock_timeout": f"{LOCK_SECONDS:.0f}s",
                "idle_in_transaction_session_timeout": "60s",
                "timezone": "UTC",
                "jit": "off",
                **settings,
            },
        }


class Transaction:
    """One transaction on a pooled connection: committed when its block ends, rolled back when the block raises."""

    __slots__ = ("_lent", "_name", "_pool", "_tenant", "_transaction", "_wire")

    def __init__(self, pool: Any, name: str, tenant: str) -> None:
        self._pool = pool
        self._name = name
        self._tenant = tenant

    async def __aenter__(self) -> Any:
        try:
            try:
                await self._begin()
            except DEAD:
                # The pool gave us a connection that died in its sleep. Nothing has run on it, so begin on a new one;
                # expiring makes the others of its age be replaced before they are used.
                await self._pool.expire_connections()
                await self._begin()
        except UNREACHABLE as error:
            raise unavailable(self._name, error) from error
        return self._lent

    async def _begin(self) -> None:
        self._lent = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        # The connection itself: what the pool lends out answers no question any more when the connection has ended.
        self._wire = self._lent.scope(self._tenant)
        self._transaction = self._lent.transaction()
        try:
            await self._transaction.start()
        except BaseException:
            self._wire.terminate()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._wire.is_closed()
        try:
            if error is None:
                await self._transaction.commit()
            elif not lost:
                async with asyncio.timeout(ABANDON_SECONDS):
                    await self._transaction.rollback()
        except BaseException as failure:
            self._wire.terminate()
            if error is None and isinstance(failure, (*AWAY, asyncpg.InterfaceError)):
                raise unavailable(self._name, failure) from failure
            if error is None or not isinstance(failure, Exception):
                raise
        finally:
            await self._pool.release(self._lent)
        if isinstance(error, AWAY) or (lost and isinstance(error, asyncpg.InterfaceError)):
            raise unavailable(self._name, error) from error


class SystemTransaction(Transaction):
    """A transaction over all tenants."""

    __slots__ = ("_statements",)

    def __init__(self, pool: Any, name: str, statements: Statements) -> None:
        super().__init__(pool, name, EVERY_TENANT)
        self._statements = statements

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Make one statement all of the transaction, in one round trip; `query` is a constant, it stays prepared.

        Raises `Unavailable` when Postgres does not answer; whether the statement was committed is then unknown.
        """
        return await self._statements.fetch(query, *args)


async def _leave_as_it_is(_: Any) -> None:
    return None
