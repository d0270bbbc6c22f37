"""Errors of asyncpg that mean an unavailable database rather than a wrong statement."""

from __future__ import annotations

import asyncpg

from chassis.errors import Unavailable

# The connection can no longer be used.
CONNECTION_LOST_ERRORS: tuple[type[Exception], ...] = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a message of the server arrived between two statements
)

# Classes 08 (connection), 53 (resources: too many clients, disk full) and 57 (shutdown, start-up, statement timeout),
# and errors that a retry of the whole request resolves: lock timeouts, deadlocks, a primary that became a replica, a
# table that was migrated since the statement was prepared.
UNAVAILABLE_ERRORS: tuple[type[Exception], ...] = (
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

# Before the first statement every error means that the database, or the service's role in it, is not ready.
CONNECT_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    *CONNECTION_LOST_ERRORS,
    *UNAVAILABLE_ERRORS,
)


def unavailable(name: str, error: BaseException) -> Unavailable:
    """Make the error; the message of `error` is left out, because it may contain data."""
    return Unavailable(f"the database of {name} does not answer ({type(error).__name__})")
