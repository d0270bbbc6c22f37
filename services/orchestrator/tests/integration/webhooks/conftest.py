"""Webhooks on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from chassis.ids import new_id
from chassis.postgres import Database
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.delivery_postgres import PostgresDeliveryQueue
from orchestrator.webhooks.model import Endpoint, EndpointChange, Event, event_payload
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.sign import new_secret

from services.orchestrator.tests.webhook_examples import NOW


@pytest.fixture
async def owner(owner: Any) -> AsyncIterator[Any]:
    yield owner
    await owner.execute("DELETE FROM webhook_deliveries; DELETE FROM webhook_endpoints")


@pytest.fixture
def cipher() -> AesSecretCipher:
    return AesSecretCipher(["a key for tests, long enough to be one"])


@pytest.fixture
def endpoints(database: Database, owner: Any, cipher: AesSecretCipher) -> PostgresWebhooks:
    return PostgresWebhooks(database, cipher)


@pytest.fixture
def deliveries(database: Database) -> PostgresDeliveries:
    return PostgresDeliveries(database)


@pytest.fixture
def queue(database: Database, owner: Any, cipher: AesSecretCipher) -> PostgresDeliveryQueue:
    return PostgresDeliveryQueue(database, cipher, disable_after=timedelta(days=5), min_failures=3)


@pytest.fixture
def create(endpoints: PostgresWebhooks) -> Any:
    async def create(tenant: str = "ten_1", *types: str, url: str = "https://example.com/hook") -> Endpoint:
        change = EndpointChange(url, "", types, None)
        return await endpoints.create(tenant, change, new_secret(), max_endpoints=100)

    return create


@pytest.fixture
def publish(deliveries: PostgresDeliveries) -> Any:
    async def publish(count: int = 1, tenant: str = "ten_1", event_type: str = "job.succeeded") -> list[Event]:
        events = [
            Event(tenant, new_id("evt_"), event_type, event_payload(event_type, NOW, {"number": number}))
            for number in range(count)
        ]
        await deliveries.add(events)
        return events

    return publish
