"""Errors of asyncpg that mean an unavailable database rather than a wrong statement."""

from __future__ import annotations

import ssl

import asyncpg

from chassis.errors import Unavailable
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

REFUSED_PARAMETER = "unsupported startup parameter"  # as PgBouncer says it
POOLER_HINT = (
    "a connection pooler refuses the start-up parameters: set POSTGRES__POOLING=transaction, or connect to Postgres"
    " itself"
)

_failure_log = RateLimitedLog(logger("chassis.postgres"))

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
    """Make the error, and log the reason that Postgres gave. Callers do not get it: it names users and addresses."""
    kind = type(error).__name__
    reason = _text(error)
    if (sentence := explain(error)) is not None:
        reason = f"{sentence} ({reason})"
    _failure_log.warning("postgres_unavailable", key=f"{name} {kind}", database=name, error=kind, reason=reason)
    return Unavailable(f"the database of {name} does not answer ({kind})")


def explain(error: BaseException | None) -> str | None:
    """Return which setting is in the way of the connection, or None when the error does not tell."""
    if refuses_parameters(error):
        return POOLER_HINT
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of Postgres is not trusted ({error.verify_message}): check sslrootcert of POSTGRES__DSN,"
            " and its host"
        )
    if isinstance(error, ssl.SSLError):
        return f"Postgres does not speak TLS as expected ({error.reason}): check sslmode of POSTGRES__DSN"
    return None


def refuses_parameters(error: BaseException | None) -> bool:
    """Whether a pooler refuses a connection because of its start-up parameters."""
    return isinstance(error, asyncpg.PostgresError) and REFUSED_PARAMETER in str(error)


def _text(error: BaseException) -> str:
    """Return the message without its details. asyncpg's errors about arguments are left out: they quote data."""
    if isinstance(error, ValueError | TypeError) or not error.args:
        return ""
    return str(error.args[0]) if isinstance(error, asyncpg.PostgresError) else str(error)
