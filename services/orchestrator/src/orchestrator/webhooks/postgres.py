"""Endpoints and deliveries of one tenant in Postgres, for the API and for new events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from chassis.ids import new_id
from chassis.postgres import Database

from orchestrator.webhooks.model import (
    Delivery,
    DeliveryDetail,
    DeliveryFilter,
    Endpoint,
    EndpointChange,
    Event,
    WebhookDeliveryNotFound,
    WebhookEndpointDisabled,
    WebhookEndpointLimit,
    WebhookEndpointNotFound,
)
from orchestrator.webhooks.ports import SecretCipher
from orchestrator.webhooks.rows import row_to_attempt, row_to_delivery, row_to_endpoint

MAX_ATTEMPTS_SHOWN = 50

# Waiting deliveries that are not being attempted. Those that are find out when they are recorded or claimed again.
CANCEL_WAITING = """
UPDATE webhook_deliveries SET state = 'cancelled', finished_at = now()
WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'pending' AND (epoch = recorded_epoch OR due_at <= now())
"""
# In the order of the unique key, in which transactions that add the same events wait for each other.
_INSERT_DELIVERIES = """
INSERT INTO webhook_deliveries (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload)
SELECT $1, delivery_id, endpoint_id, event_id, event_type, payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
    AS new (delivery_id, endpoint_id, event_id, event_type, payload)
ORDER BY event_id, endpoint_id
ON CONFLICT (tenant_id, event_id, endpoint_id) DO NOTHING
RETURNING delivery_id
"""
_RECEIVERS = "SELECT endpoint_id, event_types FROM webhook_endpoints WHERE tenant_id = $1 AND enabled"
_CREATE = """
INSERT INTO webhook_endpoints
    (tenant_id, endpoint_id, url, description, event_types, enabled, disabled_reason, disabled_at, secret)
SELECT $1, $2, $3, $4, $5, $6, CASE WHEN $6 THEN '' ELSE 'requested' END, CASE WHEN $6 THEN NULL ELSE now() END, $7
WHERE (SELECT count(*) FROM webhook_endpoints WHERE tenant_id = $1) < $8
RETURNING *
"""
_UPDATE = """
UPDATE webhook_endpoints SET
    url = coalesce($3, url), description = coalesce($4, description), event_types = coalesce($5, event_types),
    enabled = coalesce($6, enabled),
    disabled_reason = CASE WHEN $6 THEN '' WHEN NOT $6 AND enabled THEN 'requested' ELSE disabled_reason END,
    disabled_at = CASE WHEN $6 THEN NULL WHEN NOT $6 AND enabled THEN now() ELSE disabled_at END,
    failing_since = CASE WHEN $6 OR $3 <> url THEN NULL ELSE failing_since END,
    failures = CASE WHEN $6 OR $3 <> url THEN 0 ELSE failures END
WHERE tenant_id = $1 AND endpoint_id = $2 RETURNING *
"""
_ROTATE = """
UPDATE webhook_endpoints SET secret = $3,
    previous_secret = CASE WHEN $4 > interval '0' THEN secret END,
    previous_secret_expires_at = CASE WHEN $4 > interval '0' THEN now() + $4 END
WHERE tenant_id = $1 AND endpoint_id = $2 RETURNING *
"""
_LIST_DELIVERIES = """
SELECT * FROM webhook_deliveries WHERE tenant_id = $1 AND ($2 = '' OR delivery_id < $2)
 AND ($3 = '' OR endpoint_id = $3) AND ($4 = '' OR state = $4) AND ($5 = '' OR event_type = $5)
 AND ($6 = '' OR event_id = $6)
ORDER BY delivery_id DESC LIMIT $7
"""
_REDELIVER = """
UPDATE webhook_deliveries SET state = 'pending', finished_at = NULL, failures = 0, scheduled_at = now(), due_at = now()
WHERE tenant_id = $1 AND delivery_id = $2 AND (state <> 'pending' OR epoch = recorded_epoch) RETURNING *
"""
_IS_ENABLED = "SELECT enabled FROM webhook_endpoints WHERE tenant_id = $1 AND endpoint_id = $2 FOR KEY SHARE"


class PostgresWebhooks:
    """Implements EndpointStore's methods and those of DeliveryStore, which `deliveries` gives.

    Lock order: an endpoint before its deliveries.
    """

    def __init__(self, database: Database, cipher: SecretCipher) -> None:
        self._database = database
        self._cipher = cipher

    async def create(self, tenant_id: str, endpoint: EndpointChange, secret: str, *, max_endpoints: int) -> Endpoint:
        endpoint_id = new_id("whe_")
        sealed = self._cipher.seal(secret, secret_owner(tenant_id, endpoint_id))
        async with self._database.tenant(tenant_id) as connection:
            # One tenant's creations wait for each other, so that the limit holds.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || $1, 0))", tenant_id)
            row = await connection.fetchrow(
                _CREATE,
                tenant_id,
                endpoint_id,
                endpoint.url,
                endpoint.description or "",
                list(endpoint.event_types or ()),
                endpoint.enabled is not False,
                sealed,
                max_endpoints,
            )
        if row is None:
            raise WebhookEndpointLimit(f"A tenant may have {max_endpoints} webhook endpoints.")
        return row_to_endpoint(row)

    async def get(self, tenant_id: str, endpoint_id: str) -> Endpoint:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM webhook_endpoints WHERE tenant_id = $1 AND endpoint_id = $2", tenant_id, endpoint_id
            )
        return row_to_endpoint(_found(row, endpoint_id))

    async def list(self, tenant_id: str, *, limit: int, after: str) -> tuple[Sequence[Endpoint], bool]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT * FROM webhook_endpoints WHERE tenant_id = $1 AND ($2 = '' OR endpoint_id < $2)"
                " ORDER BY endpoint_id DESC LIMIT $3",
                tenant_id,
                after,
                limit + 1,
            )
        return [row_to_endpoint(row) for row in rows[:limit]], len(rows) > limit

    async def update(self, tenant_id: str, endpoint_id: str, change: EndpointChange) -> Endpoint:
        types = None if change.event_types is None else list(change.event_types)
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                _UPDATE, tenant_id, endpoint_id, change.url, change.description, types, change.enabled
            )
            if row is not None and not row["enabled"]:
                await connection.execute(CANCEL_WAITING, tenant_id, endpoint_id)
        return row_to_endpoint(_found(row, endpoint_id))

    async def delete(self, tenant_id: str, endpoint_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND endpoint_id = $2 RETURNING endpoint_id",
                tenant_id,
                endpoint_id,
            )
            _found(row, endpoint_id)
            await connection.execute(CANCEL_WAITING, tenant_id, endpoint_id)

    async def rotate(self, tenant_id: str, endpoint_id: str, secret: str, keep_previous: timedelta) -> Endpoint:
        sealed = self._cipher.seal(secret, secret_owner(tenant_id, endpoint_id))
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_ROTATE, tenant_id, endpoint_id, sealed, keep_previous)
        return row_to_endpoint(_found(row, endpoint_id))


class PostgresDeliveries:
    """Implements DeliveryStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, events: Sequence[Event]) -> int:
        added = 0
        by_tenant = sorted(events, key=lambda event: event.tenant_id)
        for tenant_id, of_tenant in groupby(by_tenant, key=lambda event: event.tenant_id):
            async with self._database.tenant(tenant_id) as connection:
                added += await add_deliveries(connection, tenant_id, list(of_tenant))
        return added

    async def add_to(self, endpoint_id: str, event: Event) -> Delivery:
        async with self._database.tenant(event.tenant_id) as connection:
            await _check_enabled(connection, event.tenant_id, endpoint_id)
            await _insert_deliveries(connection, event.tenant_id, [(event, endpoint_id)])
            row = await connection.fetchrow(
                "SELECT * FROM webhook_deliveries WHERE tenant_id = $1 AND event_id = $2 AND endpoint_id = $3",
                event.tenant_id,
                event.id,
                endpoint_id,
            )
        return row_to_delivery(row)

    async def list(
        self, tenant_id: str, wanted: DeliveryFilter, *, limit: int, after: str
    ) -> tuple[Sequence[Delivery], bool]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                _LIST_DELIVERIES,
                tenant_id,
                after,
                wanted.endpoint_id,
                wanted.state or "",
                wanted.event_type,
                wanted.event_id,
                limit + 1,
            )
        return [row_to_delivery(row) for row in rows[:limit]], len(rows) > limit

    async def get(self, tenant_id: str, delivery_id: str) -> DeliveryDetail:
        async with self._database.tenant(tenant_id) as connection:
            row = await _delivery_row(connection, tenant_id, delivery_id)
            attempts = await connection.fetch(
                "SELECT * FROM webhook_attempts WHERE tenant_id = $1 AND delivery_id = $2"
                " ORDER BY number DESC LIMIT $3",
                tenant_id,
                delivery_id,
                MAX_ATTEMPTS_SHOWN,
            )
        return DeliveryDetail(row_to_delivery(row), row["payload"], [row_to_attempt(row) for row in reversed(attempts)])

    async def redeliver(self, tenant_id: str, delivery_id: str) -> Delivery:
        async with self._database.tenant(tenant_id) as connection:
            row = await _delivery_row(connection, tenant_id, delivery_id)
            await _check_enabled(connection, tenant_id, row["endpoint_id"])
            changed = await connection.fetchrow(_REDELIVER, tenant_id, delivery_id)
        return row_to_delivery(changed or row)


async def add_deliveries(connection: Any, tenant_id: str, events: Sequence[Event]) -> int:
    """Make a delivery for each event and each endpoint of the tenant that wants it; return how many were new."""
    rows = await connection.fetch(_RECEIVERS, tenant_id)
    wanted = [
        (event, row["endpoint_id"])
        for event in events
        for row in rows
        if not row["event_types"] or event.type in row["event_types"]
    ]
    return await _insert_deliveries(connection, tenant_id, wanted)


async def _insert_deliveries(connection: Any, tenant_id: str, wanted: Sequence[tuple[Event, str]]) -> int:
    if not wanted:
        return 0
    rows = await connection.fetch(
        _INSERT_DELIVERIES,
        tenant_id,
        [new_id("whd_") for _ in wanted],
        [endpoint_id for _, endpoint_id in wanted],
        [event.id for event, _ in wanted],
        [event.type for event, _ in wanted],
        [event.payload for event, _ in wanted],
    )
    return len(rows)


def secret_owner(tenant_id: str, endpoint_id: str) -> str:
    """What a secret is bound to: encrypted for one endpoint, it cannot be read as another's."""
    return f"{tenant_id}/{endpoint_id}"


async def _check_enabled(connection: Any, tenant_id: str, endpoint_id: str) -> None:
    row = _found(await connection.fetchrow(_IS_ENABLED, tenant_id, endpoint_id), endpoint_id)
    if not row["enabled"]:
        raise WebhookEndpointDisabled(f"The webhook endpoint {endpoint_id} is disabled.")


async def _delivery_row(connection: Any, tenant_id: str, delivery_id: str) -> Any:
    row = await connection.fetchrow(
        "SELECT * FROM webhook_deliveries WHERE tenant_id = $1 AND delivery_id = $2", tenant_id, delivery_id
    )
    if row is None:
        raise WebhookDeliveryNotFound(f"There is no webhook delivery {delivery_id}.", param="delivery_id")
    return row


def _found(row: Any, endpoint_id: str) -> Any:
    if row is None:
        raise WebhookEndpointNotFound(f"There is no webhook endpoint {endpoint_id}.", param="endpoint_id")
    return row
