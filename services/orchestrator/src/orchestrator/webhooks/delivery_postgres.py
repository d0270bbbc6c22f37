"""The queue of deliveries in Postgres: leased rows of `webhook_deliveries`, of all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from chassis.ids import new_id
from chassis.postgres import Database
from chassis.postgres.leases import Lease, LeaseLost, LeaseTable

from orchestrator.webhooks.model import (
    ENDPOINT_DISABLED_EVENT,
    Answer,
    ClaimedDelivery,
    Disabled,
    DisabledReason,
    DueDelivery,
    Event,
    event_payload,
)
from orchestrator.webhooks.ports import SecretCipher
from orchestrator.webhooks.postgres import CANCEL_WAITING, add_deliveries, secret_owner
from orchestrator.webhooks.retry import should_disable

# Of the service's connections; the rest is for requests. More would wait for each other in Postgres anyway.
MAX_TRANSACTIONS = 4

DELIVERIES = LeaseTable("webhook_deliveries", key=("tenant_id", "delivery_id"), claimable="state = 'pending'")

# Goes from endpoint to endpoint in the index, so its cost grows with the endpoints that wait, not with the deliveries.
# The first of each endpoint come before the second of any.
FIND_DUE = """
WITH RECURSIVE waiting AS (
    (SELECT tenant_id, endpoint_id FROM webhook_deliveries WHERE state = 'pending'
     ORDER BY tenant_id, endpoint_id LIMIT 1)
    UNION ALL
    SELECT following.tenant_id, following.endpoint_id FROM waiting CROSS JOIN LATERAL (
        SELECT d.tenant_id, d.endpoint_id FROM webhook_deliveries AS d
        WHERE d.state = 'pending' AND (d.tenant_id, d.endpoint_id) > (waiting.tenant_id, waiting.endpoint_id)
        ORDER BY d.tenant_id, d.endpoint_id LIMIT 1
    ) AS following
)
SELECT found.tenant_id, found.delivery_id, found.endpoint_id, e.url, e.secret,
       CASE WHEN e.previous_secret_expires_at > now() THEN e.previous_secret END AS previous_secret
FROM waiting
LEFT JOIN webhook_endpoints AS e
    ON e.tenant_id = waiting.tenant_id AND e.endpoint_id = waiting.endpoint_id AND e.enabled
LEFT JOIN unnest($3::text[], $4::int[]) AS known (endpoint_id, room)
    ON known.endpoint_id = waiting.endpoint_id
CROSS JOIN LATERAL (
    SELECT d.tenant_id, d.delivery_id, d.endpoint_id, d.due_at, row_number() OVER (ORDER BY d.due_at) AS turn
    FROM webhook_deliveries AS d
    WHERE d.state = 'pending' AND d.tenant_id = waiting.tenant_id AND d.endpoint_id = waiting.endpoint_id
      AND d.due_at <= now()
    ORDER BY d.due_at LIMIT coalesce(known.room, $2)
) AS found
ORDER BY found.turn, found.due_at LIMIT $1
"""
_ATTEMPT = """
INSERT INTO webhook_attempts (tenant_id, delivery_id, number, started_at, duration, status, error, response)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
# A success is one statement, because most attempts are. It is fenced by the epoch, as `LeaseTable.update` does it. An
# endpoint that has failed is locked before the delivery, by a condition that is met in any case.
_SUCCEED = """
WITH failing AS MATERIALIZED (
    SELECT endpoint_id FROM webhook_endpoints
    WHERE tenant_id = $1 AND endpoint_id = $8 AND failing_since IS NOT NULL FOR NO KEY UPDATE
), recorded AS (
    UPDATE webhook_deliveries SET state = 'succeeded', finished_at = now(), recorded_epoch = epoch,
        attempts = attempts + 1, last_status = $4, last_error = ''
    WHERE tenant_id = $1 AND delivery_id = $2 AND epoch = $3 AND state = 'pending'
    AND (SELECT count(*) FROM failing) >= 0
    RETURNING tenant_id, delivery_id, endpoint_id, attempts
), logged AS (
    INSERT INTO webhook_attempts (tenant_id, delivery_id, number, started_at, duration, status, error, response)
    SELECT tenant_id, delivery_id, attempts, $5, $6, $4, '', $7 FROM recorded
)
UPDATE webhook_endpoints AS e SET failing_since = NULL, failures = 0 FROM recorded
WHERE e.tenant_id = recorded.tenant_id AND e.endpoint_id = recorded.endpoint_id AND e.failing_since IS NOT NULL
"""
_RECORDED = "recorded_epoch = epoch, attempts = attempts + 1, last_status = $1, last_error = $2"
_FAILED = """
UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, now()), failures = failures + 1
WHERE tenant_id = $1 AND endpoint_id = $2 RETURNING *, now() AS now
"""
_DISABLE = """
UPDATE webhook_endpoints SET enabled = false, disabled_reason = $3, disabled_at = now()
WHERE tenant_id = $1 AND endpoint_id = $2
"""
_EXPIRE = """
DELETE FROM webhook_deliveries AS d USING (
    SELECT tenant_id, delivery_id FROM webhook_deliveries
    WHERE state <> 'pending' AND finished_at < now() - $1::interval
    ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
) AS old WHERE d.tenant_id = old.tenant_id AND d.delivery_id = old.delivery_id
RETURNING d.delivery_id
"""


class PostgresDeliveryQueue:
    """Implements DeliveryQueue. An endpoint is given up after `disable_after` and `min_failures` of only failures."""

    def __init__(
        self, database: Database, cipher: SecretCipher, *, disable_after: timedelta, min_failures: int
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._disable_after = disable_after
        self._min_failures = min_failures
        self._turns = asyncio.Semaphore(MAX_TRANSACTIONS)

    async def find_due(self, limit: int, per_endpoint: int, rooms: Mapping[str, int]) -> Sequence[DueDelivery]:
        rows = await self._database.system().fetch(FIND_DUE, limit, per_endpoint, list(rooms), list(rooms.values()))
        return [row_to_due(row) for row in rows]

    async def claim(self, due: DueDelivery, lease: timedelta) -> ClaimedDelivery | None:
        async with self._turns:
            claimed = await DELIVERIES.claim_one(self._database.system(), (due.tenant_id, due.delivery_id), lease)
        if claimed is None:
            return None
        row = claimed.row
        owner = secret_owner(due.tenant_id, due.endpoint_id)
        return ClaimedDelivery(
            tenant_id=due.tenant_id,
            delivery_id=due.delivery_id,
            endpoint_id=due.endpoint_id,
            epoch=claimed.lease.epoch,
            event_id=row["event_id"],
            event_type=row["event_type"],
            payload=row["payload"],
            attempts=row["attempts"],
            failures=row["failures"],
            scheduled_at=row["scheduled_at"],
            claimed_at=row["due_at"] - lease,
            url=due.url,
            secrets=tuple(self._cipher.open(sealed, owner) for sealed in due.sealed_secrets),
        )

    async def record_success(self, claimed: ClaimedDelivery, answer: Answer, took: timedelta) -> None:
        async with self._turns:
            await self._database.system().fetch(
                _SUCCEED,
                claimed.tenant_id,
                claimed.delivery_id,
                claimed.epoch,
                answer.status,
                claimed.claimed_at,
                took,
                answer.response,
                claimed.endpoint_id,
            )

    async def record_failure(
        self, claimed: ClaimedDelivery, answer: Answer, took: timedelta, next_attempt_at: datetime | None
    ) -> Disabled | None:
        try:
            async with self._tenant(claimed.tenant_id) as connection:
                endpoint = await connection.fetchrow(_FAILED, claimed.tenant_id, claimed.endpoint_id)
                reason = self._reason(endpoint, answer)
                usable = endpoint is not None and endpoint["enabled"] and not reason
                if next_attempt_at is None:
                    changes = "failures = failures + 1, state = 'exhausted', finished_at = now()"
                elif usable:
                    changes = "failures = failures + 1, due_at = $3"
                else:
                    changes = "failures = failures + 1, state = 'cancelled', finished_at = now()"
                values = [next_attempt_at] if usable and next_attempt_at is not None else []
                await self._log(connection, claimed, answer, took, changes, *values)
                if not reason:
                    return None
                disabled = Disabled(claimed.endpoint_id, endpoint["url"], reason)
                await self._disable(connection, claimed.tenant_id, disabled, endpoint["now"])
                return disabled
        except LeaseLost:
            return None

    async def cancel(self, claimed: ClaimedDelivery) -> None:
        try:
            async with self._tenant(claimed.tenant_id) as connection:
                changes = "state = 'cancelled', finished_at = now(), recorded_epoch = epoch"
                await DELIVERIES.update(connection, _lease(claimed), changes)
        except LeaseLost:
            return

    async def expire(self, older_than: timedelta, limit: int) -> int:
        """Delete finished deliveries with their attempts; return how many."""
        return len(await self._database.system().fetch(_EXPIRE, older_than, limit))

    @asynccontextmanager
    async def _tenant(self, tenant_id: str) -> AsyncIterator[Any]:
        async with self._turns, self._database.tenant(tenant_id) as connection:
            yield connection

    async def _log(
        self, connection: Any, claimed: ClaimedDelivery, answer: Answer, took: timedelta, changes: str, *values: Any
    ) -> None:
        row = await DELIVERIES.update(
            connection, _lease(claimed), f"{_RECORDED}, {changes}", answer.status, answer.error, *values
        )
        await connection.execute(
            _ATTEMPT,
            claimed.tenant_id,
            claimed.delivery_id,
            row["attempts"],
            claimed.claimed_at,
            took,
            answer.status,
            answer.error,
            answer.response,
        )

    async def _disable(self, connection: Any, tenant_id: str, disabled: Disabled, now: datetime) -> None:
        """Disable the endpoint, cancel what waits for it, and tell the tenant's other endpoints."""
        await connection.execute(_DISABLE, tenant_id, disabled.endpoint_id, disabled.reason)
        await connection.execute(CANCEL_WAITING, tenant_id, disabled.endpoint_id)
        data: dict[str, object] = {
            "endpoint_id": disabled.endpoint_id,
            "url": disabled.url,
            "reason": disabled.reason.value,
        }
        payload = event_payload(ENDPOINT_DISABLED_EVENT, now, data)
        event = Event(tenant_id, new_id("evt_"), ENDPOINT_DISABLED_EVENT, payload)
        await add_deliveries(connection, tenant_id, [event])

    def _reason(self, endpoint: Any, answer: Answer) -> DisabledReason:
        if endpoint is None or not endpoint["enabled"]:
            return DisabledReason.NONE
        if answer.status == HTTPStatus.GONE:
            return DisabledReason.ANSWERED_410
        failing = should_disable(
            endpoint["failing_since"],
            endpoint["failures"],
            endpoint["now"],
            disable_after=self._disable_after,
            min_failures=self._min_failures,
        )
        return DisabledReason.FAILING if failing else DisabledReason.NONE


def row_to_due(row: Any) -> DueDelivery:
    sealed = tuple(secret for secret in (row["secret"], row["previous_secret"]) if secret is not None)
    return DueDelivery(row["tenant_id"], row["delivery_id"], row["endpoint_id"], row["url"] or "", sealed)


def _lease(claimed: ClaimedDelivery) -> Lease:
    return Lease((claimed.tenant_id, claimed.delivery_id), claimed.epoch)
