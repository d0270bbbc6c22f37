"""The database of a service: every access is a transaction of one tenant, or explicitly of all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self

import asyncpg

from chassis.errors import InvalidRequest
from chassis.postgres.failures import CONNECT_ERRORS, CONNECTION_LOST_ERRORS, UNAVAILABLE_ERRORS, unavailable
from chassis.postgres.statements import Statements
from chassis.settings import PostgresSection

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
ALL_TENANTS = "*"

# Timeouts for a free connection, a new connection, a lock, one statement (the server's limit applies first; the
# client's is for a server that does not answer), and for a rollback.
ACQUIRE_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 3.0
LOCK_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_SECONDS = 10.0
CLIENT_TIMEOUT_SECONDS = 12.0
ROLLBACK_TIMEOUT_SECONDS = 2.0


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """An asyncpg connection that sets the tenant in the same round trip as BEGIN."""

    __slots__ = ("_begin_suffix",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begin_suffix = ""

    def set_tenant(self, tenant: str, further: str = "") -> Self:
        """Make the next BEGIN set `argosy.tenant` for its transaction; `tenant` is validated and needs no quoting.

        `further` are more calls of `set_config`, each after a comma.
        """
        self._begin_suffix = f";SELECT set_config('argosy.tenant', '{tenant}', true){further}"
        return self

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if self._begin_suffix and query.startswith("BEGIN"):
            # Several statements without arguments are sent as one message: one round trip instead of two.
            query, self._begin_suffix = query.rstrip(";") + self._begin_suffix, ""
        status: str = await super().execute(query, *args, timeout=timeout)
        if status == "ROLLBACK" and query.startswith("COMMIT"):
            # A statement failed and its error was swallowed. Postgres then rolls back at COMMIT without an error.
            raise asyncpg.InFailedSQLTransactionError("a failed statement was ignored, so nothing was committed")
        return status


_GENERIC_PLANS = ", set_config('plan_cache_mode', 'force_generic_plan', true)"


class SystemStatements(Protocol):
    """Runs single statements over all tenants, each in a transaction of its own."""

    async def open(self) -> None:
        """Prepare to connect; nothing is connected yet."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement and commit it."""

    async def close(self) -> None:
        """Close the connections."""


class Database:
    """The service's own schema, reached as its app role; an async context manager.

    Opening it does not connect: a service starts while Postgres is down and is not ready until it is up. Connection
    errors and timeouts become `Unavailable`; wrong SQL and violated constraints raise asyncpg's exceptions.
    """

    def __init__(self, section: PostgresSection, name: str) -> None:
        self._section = section
        self._name = name
        self._pool: Any = None
        self._statements: SystemStatements = (
            PooledStatements(self._create_pool, name, self._local_settings())
            if section.pooling == "transaction"
            else Statements(self._connect_for_all_tenants, name, section.pool_size)
        )

    async def __aenter__(self) -> Self:
        self._pool = await self._create_pool()
        await self._statements.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._statements.close()
        await close_pool(self._pool)

    def tenant(self, tenant_id: str, *, generic_plans: bool = False) -> Transaction:
        """Open a transaction that sees and writes the rows of one tenant only.

        With `generic_plans` a statement is planned without regard to its values: once on each connection, or at each
        call behind a pooler that keeps no statements. Raises `InvalidRequest` for a malformed id, `Unavailable` when
        Postgres does not answer.
        """
        if TENANT.fullmatch(tenant_id) is None:
            raise InvalidRequest("the tenant id is malformed", param="tenant_id")
        return Transaction(
            self._pool, self._name, tenant_id, self._local_settings() + (_GENERIC_PLANS if generic_plans else "")
        )

    def system(self) -> SystemTransaction:
        """Open a transaction over all tenants, for sweepers, relays and key lookups; a lint lists its users."""
        return SystemTransaction(self._pool, self._name, self._local_settings(), self._statements)

    async def ping(self) -> None:
        """Raise `Unavailable` unless Postgres answers."""
        async with self.system() as connection:
            await connection.execute("SELECT 1")

    @property
    def session_settings(self) -> dict[str, str]:
        """The settings that every transaction relies on, by name."""
        return {
            "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS:.0f}s",
            "lock_timeout": f"{LOCK_TIMEOUT_SECONDS:.0f}s",
            "idle_in_transaction_session_timeout": "60s",
            "timezone": "UTC",
            "jit": "off",
        }

    async def _create_pool(self) -> Any:
        return await asyncpg.create_pool(
            min_size=0,
            max_size=self._section.pool_size,
            connection_class=Connection,
            # asyncpg's reset costs a round trip per release and would undo session state, of which there is none: the
            # tenant is set locally in its transaction.
            reset=_no_reset,
            **self._connect_options(),
        )

    async def _connect_for_all_tenants(self) -> Any:
        # Not from the pool: on these connections all tenants are visible, so no transaction of a tenant may use them.
        return await asyncpg.connect(**self._connect_options(**{"argosy.tenant": ALL_TENANTS}))

    def _connect_options(self, **settings: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "dsn": self._section.dsn.get_secret_value(),
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": CLIENT_TIMEOUT_SECONDS,
            "server_settings": {"application_name": self._name},
        }
        if self._section.pooling == "transaction":
            # A statement that is prepared under a name would be on one of the pooler's connections only.
            return options | {"statement_cache_size": 0}
        options["server_settings"] |= {**self.session_settings, **settings}
        return options

    def _local_settings(self) -> str:
        """Return what `BEGIN` sets besides the tenant: nothing, where the session has it from its start."""
        if self._section.pooling == "session":
            return ""
        return "".join(f", set_config('{name}', '{value}', true)" for name, value in self.session_settings.items())


async def close_pool(pool: Any) -> None:
    """Close the pool's connections; drop those of an unresponsive server."""
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT_SECONDS):
            await pool.close()
    except (*UNAVAILABLE_ERRORS, asyncpg.InterfaceError):
        pool.terminate()


class Transaction:
    """One transaction on a pooled connection: committed when its block ends, rolled back when the block raises."""

    __slots__ = ("_connection", "_local_settings", "_name", "_pool", "_pooled", "_tenant", "_transaction")

    def __init__(self, pool: Any, name: str, tenant: str, local_settings: str) -> None:
        self._pool = pool
        self._name = name
        self._tenant = tenant
        self._local_settings = local_settings

    async def __aenter__(self) -> Any:
        try:
            try:
                await self._begin()
            except CONNECTION_LOST_ERRORS:
                # The pooled connection was lost while it was idle. No statement has run on it, so a new one is used;
                # expiring replaces the other old connections before they are used.
                await self._pool.expire_connections()
                await self._begin()
        except CONNECT_ERRORS as error:
            raise unavailable(self._name, error) from error
        return self._pooled

    async def _begin(self) -> None:
        self._pooled = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
        # The real connection: the pool's proxy raises on every call once the connection is closed.
        self._connection = self._pooled.set_tenant(self._tenant, self._local_settings)
        self._transaction = self._pooled.transaction()
        try:
            await self._transaction.start()
        except BaseException:
            self._connection.terminate()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._connection.is_closed()
        try:
            if error is None:
                await self._transaction.commit()
            elif not lost:
                async with asyncio.timeout(ROLLBACK_TIMEOUT_SECONDS):
                    await self._transaction.rollback()
        except BaseException as failure:
            self._connection.terminate()
            if error is None and isinstance(failure, (*UNAVAILABLE_ERRORS, asyncpg.InterfaceError)):
                raise unavailable(self._name, failure) from failure
            if error is None or not isinstance(failure, Exception):
                raise
        finally:
            await self._pool.release(self._pooled)
        if isinstance(error, UNAVAILABLE_ERRORS) or (lost and isinstance(error, asyncpg.InterfaceError)):
            raise unavailable(self._name, error) from error


class SystemTransaction(Transaction):
    """A transaction over all tenants."""

    __slots__ = ("_statements",)

    def __init__(self, pool: Any, name: str, local_settings: str, statements: SystemStatements) -> None:
        super().__init__(pool, name, ALL_TENANTS, local_settings)
        self._statements = statements

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run the transaction as one statement in one round trip; `query` is a constant, because it stays prepared.

        Raises `Unavailable` when Postgres does not answer; whether the statement was committed is then unknown.
        """
        return await self._statements.fetch(query, *args)


class PooledStatements:
    """Runs each statement in a transaction of a pool of its own, for what a session would have is not kept there.

    A pool of its own: a transaction that waits for a statement must not wait for the connection that it holds.
    """

    def __init__(self, create_pool: Callable[[], Awaitable[Any]], name: str, local_settings: str) -> None:
        self._create_pool = create_pool
        self._name = name
        self._local_settings = local_settings
        self._pool: Any = None

    async def open(self) -> None:
        self._pool = await self._create_pool()

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement and commit it. Raises `Unavailable` as `Statements` does."""
        async with Transaction(self._pool, self._name, ALL_TENANTS, self._local_settings) as connection:
            rows: list[Any] = await connection.fetch(query, *args)
        return rows

    async def close(self) -> None:
        await close_pool(self._pool)


async def _no_reset(_: Any) -> None:
    return None
