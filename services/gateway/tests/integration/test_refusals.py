"""A refusal that cannot be recorded changes nothing for the caller."""

from datetime import UTC, datetime

from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.testing.logs import captured_lines
from gateway.audit.model import AuditEntry
from gateway.audit.postgres import PostgresAuditLog


async def test_without_the_database_a_refusal_is_logged_and_not_raised(database: Database) -> None:
    async def down(*_: object) -> None:
        raise Unavailable("the database of gateway does not answer")

    entry = AuditEntry("ten_a", "evt_1", "key.create", "key_1", "ten_a", "key_0", "req_1", {}, datetime.now(UTC))
    with captured_lines() as lines:
        await PostgresAuditLog(database, down).add_refusal(entry)

    assert [(line["event"], line["reason"]) for line in lines] == [("audit_refusal_not_written", "SERVICE_UNAVAILABLE")]
