"""Endpoints and deliveries of a tenant, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.model import (
    DeliveryFilter,
    DeliveryState,
    DisabledReason,
    EndpointChange,
    Event,
    WebhookDeliveryNotFound,
    WebhookEndpointDisabled,
    WebhookEndpointLimit,
    WebhookEndpointNotFound,
    WebhooksNotConfigured,
)
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.secrets_postgres import PostgresSecrets
from orchestrator.webhooks.sign import new_secret

ALL = DeliveryFilter()
NEW_KEY = "another key of tests, long enough to be one"


async def test_an_endpoint_is_read_back_changed_and_deleted(endpoints: PostgresWebhooks, create: Any) -> None:
    made = await create("ten_1", "job.failed")

    assert await endpoints.get("ten_1", made.id) == made
    changed = await endpoints.update("ten_1", made.id, EndpointChange(description="mine", event_types=()))
    assert (changed.description, changed.event_types, changed.url) == ("mine", (), made.url)
    await endpoints.delete("ten_1", made.id)
    with pytest.raises(WebhookEndpointNotFound):
        await endpoints.get("ten_1", made.id)


async def test_endpoints_of_another_tenant_are_not_found(endpoints: PostgresWebhooks, create: Any) -> None:
    made = await create("ten_1")

    for call in (
        endpoints.get("ten_2", made.id),
        endpoints.delete("ten_2", made.id),
        endpoints.update("ten_2", made.id, EndpointChange(enabled=False)),
        endpoints.rotate("ten_2", made.id, new_secret(), timedelta(0)),
    ):
        with pytest.raises(WebhookEndpointNotFound):
            await call
    assert await endpoints.list("ten_2", limit=10, after="") == ([], False)


async def test_endpoints_are_listed_in_pages_newest_first(endpoints: PostgresWebhooks, create: Any) -> None:
    made = [await create("ten_1") for _ in range(3)]

    first, more = await endpoints.list("ten_1", limit=2, after="")
    rest, no_more = await endpoints.list("ten_1", limit=2, after=first[-1].id)

    assert [one.id for one in [*first, *rest]] == [one.id for one in reversed(made)]
    assert (more, no_more) == (True, False)


async def test_a_tenant_never_has_more_endpoints_than_it_may(endpoints: PostgresWebhooks) -> None:
    change = EndpointChange("https://example.com/hook", "", ())
    results = await asyncio.gather(
        *(endpoints.create("ten_1", change, new_secret(), max_endpoints=3) for _ in range(8)), return_exceptions=True
    )

    assert sum(isinstance(result, WebhookEndpointLimit) for result in results) == 5


async def test_after_a_reseal_the_new_key_opens_all_secrets_alone(
    endpoints: PostgresWebhooks, database: Database, owner: Any, create: Any
) -> None:
    old = "a key for tests, long enough to be one"
    rotated, kept = await create("ten_1"), await create("ten_2")
    await endpoints.rotate("ten_1", rotated.id, secret := new_secret(), timedelta(hours=1))
    resealed = PostgresSecrets(database, AesSecretCipher([NEW_KEY, old]))

    assert await resealed.reseal() == 3
    assert await resealed.reseal() == 0

    alone = AesSecretCipher([NEW_KEY])
    rows = await owner.fetch("SELECT endpoint_id, tenant_id, secret, previous_secret FROM webhook_endpoints")
    opened = {
        (row["endpoint_id"], column): alone.open(row[column], f"{row['tenant_id']}/{row['endpoint_id']}")
        for row in rows
        for column in ("secret", "previous_secret")
        if row[column] is not None
    }
    assert opened[rotated.id, "secret"] == secret
    assert opened.keys() == {(rotated.id, "secret"), (rotated.id, "previous_secret"), (kept.id, "secret")}


class RotatedMeanwhile:
    """A database that rotates a secret after secrets were read, and before the first is written."""

    def __init__(self, database: Database, rotate: Callable[[], Awaitable[object]]) -> None:
        self._database = database
        self._rotate: Callable[[], Awaitable[object]] | None = rotate
        self.system = database.system

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Any]:
        rotate, self._rotate = self._rotate, None
        if rotate is not None:
            await rotate()
        async with self._database.tenant(tenant_id) as connection:
            yield connection


async def test_a_secret_that_is_rotated_during_a_reseal_is_resealed_as_the_previous_one(
    database: Database, owner: Any, create: Any
) -> None:
    made = await create("ten_1")
    cipher = AesSecretCipher([NEW_KEY, "a key for tests, long enough to be one"])
    rotating = PostgresWebhooks(database, cipher)
    meanwhile: Any = RotatedMeanwhile(
        database, lambda: rotating.rotate("ten_1", made.id, new_secret(), timedelta(hours=1))
    )

    assert await PostgresSecrets(meanwhile, cipher).reseal() == 1

    alone = AesSecretCipher([NEW_KEY])
    row = await owner.fetchrow("SELECT secret, previous_secret FROM webhook_endpoints")
    assert [alone.reseal(row[column], f"ten_1/{made.id}") for column in ("secret", "previous_secret")] == [None, None]


async def test_a_secret_that_is_gone_during_a_reseal_is_not_counted(database: Database, create: Any) -> None:
    made = await create("ten_1")
    cipher = AesSecretCipher([NEW_KEY, "a key for tests, long enough to be one"])
    rotating = PostgresWebhooks(database, cipher)
    meanwhile: Any = RotatedMeanwhile(database, lambda: rotating.rotate("ten_1", made.id, new_secret(), timedelta(0)))

    assert await PostgresSecrets(meanwhile, cipher).reseal() == 0


async def test_a_reseal_without_the_old_key_says_so_and_changes_nothing(
    database: Database, owner: Any, create: Any
) -> None:
    await create("ten_1")
    before = await owner.fetchval("SELECT secret FROM webhook_endpoints")

    with pytest.raises(WebhooksNotConfigured):
        await PostgresSecrets(database, AesSecretCipher([NEW_KEY])).reseal()
    assert await owner.fetchval("SELECT secret FROM webhook_endpoints") == before


async def test_secrets_are_not_stored_in_clear(endpoints: PostgresWebhooks, owner: Any) -> None:
    secret = new_secret()
    await endpoints.create("ten_1", EndpointChange("https://example.com/", "", ()), secret, max_endpoints=1)

    stored = await owner.fetchval("SELECT secret FROM webhook_endpoints")

    assert secret.encode() not in stored
    assert secret.removeprefix("whsec_").encode() not in stored


async def test_events_go_to_the_endpoints_that_want_them(
    endpoints: PostgresWebhooks, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    everything = await create("ten_1")
    failures = await create("ten_1", "job.failed")
    await create("ten_2")
    disabled = await create("ten_1")
    await endpoints.update("ten_1", disabled.id, EndpointChange(enabled=False))

    await publish(1, "ten_1", "job.succeeded")
    await publish(1, "ten_1", "job.failed")

    found, _ = await deliveries.list("ten_1", ALL, limit=10, after="")
    assert sorted((one.endpoint_id, one.event_type) for one in found) == sorted(
        [(everything.id, "job.succeeded"), (everything.id, "job.failed"), (failures.id, "job.failed")]
    )


async def test_an_event_that_is_consumed_again_makes_no_second_delivery(
    deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    await create("ten_1")
    events = await publish(3)

    assert await deliveries.add(events) == 0
    later = await create("ten_1")
    # An endpoint that was made since gets it, the other one does not again.
    assert await deliveries.add(events) == 3
    found, _ = await deliveries.list("ten_1", DeliveryFilter(endpoint_id=later.id), limit=10, after="")
    assert len(found) == 3


async def test_replicas_that_consume_an_event_at_once_make_one_delivery(
    deliveries: PostgresDeliveries, create: Any
) -> None:
    await create("ten_1")
    event = Event("ten_1", "evt_1", "job.succeeded", b"{}")

    made = await asyncio.gather(*(deliveries.add([event]) for _ in range(8)))

    assert sum(made) == 1


async def test_disabling_cancels_what_waits_and_enabling_does_not_revive_it(
    endpoints: PostgresWebhooks, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    made = await create("ten_1")
    await publish(2)

    disabled = await endpoints.update("ten_1", made.id, EndpointChange(enabled=False))
    assert (disabled.enabled, disabled.disabled_reason) == (False, DisabledReason.REQUESTED)
    assert disabled.disabled_at is not None
    enabled = await endpoints.update("ten_1", made.id, EndpointChange(enabled=True))
    assert (enabled.enabled, enabled.disabled_reason, enabled.disabled_at) == (True, DisabledReason.NONE, None)

    found, _ = await deliveries.list("ten_1", DeliveryFilter(state=DeliveryState.CANCELLED), limit=10, after="")
    assert len(found) == 2
    # Each can be sent again.
    again = await deliveries.redeliver("ten_1", found[0].id)
    assert (again.state, again.event_id) == (DeliveryState.PENDING, found[0].event_id)


async def test_a_deleted_endpoint_leaves_its_log(
    endpoints: PostgresWebhooks, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    made = await create("ten_1")
    await publish(1)
    await endpoints.delete("ten_1", made.id)

    ((delivery,), _) = await deliveries.list("ten_1", ALL, limit=10, after="")
    assert delivery.state is DeliveryState.CANCELLED
    with pytest.raises(WebhookEndpointNotFound):
        await deliveries.redeliver("ten_1", delivery.id)


async def test_a_test_event_ignores_the_filter_and_needs_an_enabled_endpoint(
    endpoints: PostgresWebhooks, deliveries: PostgresDeliveries, create: Any
) -> None:
    made = await create("ten_1", "job.failed")
    event = Event("ten_1", "evt_test", "webhook_endpoint.test", b"{}")

    assert (await deliveries.add_to(made.id, event)).state is DeliveryState.PENDING
    await endpoints.update("ten_1", made.id, EndpointChange(enabled=False))
    with pytest.raises(WebhookEndpointDisabled):
        await deliveries.add_to(made.id, event)
    with pytest.raises(WebhookEndpointNotFound):
        await deliveries.add_to("whe_none", event)


async def test_deliveries_are_filtered_and_listed_in_pages(
    deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    one, other = await create("ten_1"), await create("ten_1", "job.failed")
    (event, *_) = await publish(3, "ten_1", "job.failed")

    first, more = await deliveries.list("ten_1", DeliveryFilter(endpoint_id=one.id), limit=2, after="")
    rest, no_more = await deliveries.list("ten_1", DeliveryFilter(endpoint_id=one.id), limit=2, after=first[-1].id)
    assert (len(first), more, len(rest), no_more) == (2, True, 1, False)
    of_event, _ = await deliveries.list("ten_1", DeliveryFilter(event_id=event.id), limit=10, after="")
    assert {delivery.endpoint_id for delivery in of_event} == {one.id, other.id}
    for wanted in (DeliveryFilter(event_type="job.succeeded"), DeliveryFilter(state=DeliveryState.EXHAUSTED)):
        assert await deliveries.list("ten_1", wanted, limit=10, after="") == ([], False)
    detail = await deliveries.get("ten_1", of_event[0].id)
    assert (detail.payload, list(detail.attempts)) == (event.payload, [])
    with pytest.raises(WebhookDeliveryNotFound):
        await deliveries.get("ten_2", of_event[0].id)
