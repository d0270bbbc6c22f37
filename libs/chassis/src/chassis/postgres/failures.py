"""Which failures of Postgres and asyncpg mean "the database does not answer", not "the statement is wrong"."""

from __future__ import annotations

import asyncpg

from chassis.errors import Unavailable

# A connection that can no longer be used.
DEAD: tuple[type[Exception], ...] = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last words came between two statements
)

# Classes 08 (connection), 53 (resources: too many clients, disk full) and 57 (shutdown, start-up, statement timeout),
# and what another try of the whole request cures: lock timeouts, deadlocks, a primary that became a replica, a table
# that was migrated since the statement was prepared.
AWAY: tuple[type[Exception], ...] = (
    ConnectionError,
    TimeoutError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)

# Before the first statement every failure is one of reaching the database: it, or our role in it, is not ready.
UNREACHABLE: tuple[type[Exception], ...] = (OSError, asyncpg.PostgresError, *DEAD, *AWAY)


def unavailable(name: str, error: BaseException) -> Unavailable:
    """Say that the database of `name` does not answer; the error's own words stay out, they may hold data."""
    return Unavailable(f"the database of {name} does not answer ({type(error).__name__})")
