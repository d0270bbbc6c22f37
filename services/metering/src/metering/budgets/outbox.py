"""Notices about budgets, made into events.

The function `metering.reserve` writes a notice in the transaction in which a limit is reached, because it is a single
statement of the hot path; here a message is made of each and put into the outbox, in one transaction.
"""

from collections.abc import Callable
from typing import Any

from argosy.common.v1.common_pb2 import EventMeta
from argosy.metering.v1 import events_pb2
from chassis.kafka import Event, Outbox
from chassis.postgres import Database
from values.money import NanoUsd
from values.protos import nano_usd_to_proto, timestamp_to_proto

BUDGET_LIMIT_REACHED = "argosy.metering.budget-limit-reached.v1"
BATCH_SIZE = 100

_LIMIT_TO_PROTO = {"soft": events_pb2.BUDGET_LIMIT_SOFT, "hard": events_pb2.BUDGET_LIMIT_HARD}
_READ = "SELECT * FROM metering.budget_notices ORDER BY created_at, notice_id LIMIT $1 FOR UPDATE SKIP LOCKED"
_DELETE = """
DELETE FROM metering.budget_notices AS n USING unnest($1::text[], $2::uuid[]) AS done (tenant_id, notice_id)
WHERE n.tenant_id = done.tenant_id AND n.notice_id = done.notice_id
"""


class PostgresBudgetNotices:
    """The table `budget_notices`."""

    def __init__(self, database: Database, on_written: Callable[[], None]) -> None:
        """`on_written` is called after a commit with events."""
        self._database = database
        self._on_written = on_written

    async def publish(self) -> bool:
        """Move a batch of notices to the outbox; True when there may be more."""
        async with self._database.system() as connection:
            rows = await connection.fetch(_READ, BATCH_SIZE)
            if not rows:
                return False
            await Outbox.enqueue_all(connection, [notice_to_event(row) for row in rows])
            await connection.execute(_DELETE, [row["tenant_id"] for row in rows], [row["notice_id"] for row in rows])
        self._on_written()
        return len(rows) == BATCH_SIZE


def notice_to_event(row: Any) -> Event:
    event_id = f"evt_{row['notice_id'].hex}"
    message = events_pb2.BudgetLimitReached(
        meta=EventMeta(
            event_id=event_id, tenant_id=row["tenant_id"], occurred_at=timestamp_to_proto(row["created_at"])
        ),
        limit=_LIMIT_TO_PROTO[row["limit_kind"]],
        percent=row["percent"],
        cap=nano_usd_to_proto(NanoUsd(row["cap"])),
        spent=nano_usd_to_proto(NanoUsd(row["spent"])),
        held=nano_usd_to_proto(NanoUsd(row["held"])),
        exposed=nano_usd_to_proto(NanoUsd(row["exposed"])),
    )
    return Event(row["tenant_id"], event_id, BUDGET_LIMIT_REACHED, message.SerializeToString(), {})
