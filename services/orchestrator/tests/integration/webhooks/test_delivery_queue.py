"""The queue of deliveries, on a real Postgres: claims, results, disabling, retention."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from orchestrator.webhooks.delivery_postgres import FIND_DUE, PostgresDeliveryQueue
from orchestrator.webhooks.model import (
    Answer,
    ClaimedDelivery,
    DeliveryFilter,
    DeliveryState,
    DisabledReason,
    DueDelivery,
    EndpointChange,
)
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.sign import new_secret

LEASE = timedelta(minutes=5)
TOOK = timedelta(milliseconds=120)
OK = Answer(200, response="thanks")
BROKEN = Answer(500, "unexpected_status", "oops")
ALL = DeliveryFilter()
WAITS_FOR_THIS_SESSION = "SELECT count(*) > 0 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


async def claim_one(queue: PostgresDeliveryQueue) -> ClaimedDelivery:
    (due, *_) = await queue.find_due(1, 8, {})
    claimed = await queue.claim(due, LEASE)
    assert claimed is not None
    return claimed


async def fail(queue: PostgresDeliveryQueue, answer: Answer = BROKEN) -> Any:
    claimed = await claim_one(queue)
    return await queue.record_failure(claimed, answer, TOOK, claimed.claimed_at)


async def test_endpoints_take_turns_however_much_waits_for_one(
    queue: PostgresDeliveryQueue, create: Any, publish: Any
) -> None:
    busy = await create("ten_1", "job.succeeded")
    await publish(50, "ten_1")
    quiet = [await create(f"ten_{number}") for number in range(2, 5)]
    for number in range(2, 5):
        await publish(2, f"ten_{number}")

    found = await queue.find_due(8, 4, {})

    assert {due.endpoint_id for due in found[:4]} == {busy.id, *(one.id for one in quiet)}
    assert [due.endpoint_id for due in await queue.find_due(100, 4, {})].count(busy.id) == 4
    assert [due.endpoint_id for due in await queue.find_due(100, 4, {busy.id: 1})].count(busy.id) == 1
    assert busy.id not in {due.endpoint_id for due in await queue.find_due(100, 4, {busy.id: 0})}


async def test_of_many_claimers_one_gets_a_delivery(queue: PostgresDeliveryQueue, create: Any, publish: Any) -> None:
    await create()
    await publish(1)
    (due,) = await queue.find_due(10, 8, {})

    claims = await asyncio.gather(*(queue.claim(due, LEASE) for _ in range(8)))

    assert len([claim for claim in claims if claim]) == 1
    assert await queue.find_due(10, 8, {}) == []


async def test_a_delivery_whose_process_died_is_claimed_again_and_the_dead_one_records_nothing(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    await create()
    await publish(1)
    (due,) = await queue.find_due(10, 8, {})
    dead = await queue.claim(due, timedelta(0))
    assert dead is not None

    alive = await claim_one(queue)
    await queue.record_success(dead, OK, TOOK)
    assert await queue.record_failure(dead, BROKEN, TOOK, None) is None

    assert (await deliveries.get("ten_1", due.delivery_id)).attempts == []
    await queue.record_success(alive, OK, TOOK)
    detail = await deliveries.get("ten_1", due.delivery_id)
    assert detail.delivery.state is DeliveryState.SUCCEEDED
    assert alive.event_id == dead.event_id


async def test_every_attempt_is_logged(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, endpoints: PostgresWebhooks, create: Any, publish: Any
) -> None:
    made = await create()
    await publish(1)

    await fail(queue)
    assert (await endpoints.get("ten_1", made.id)).failing_since is not None
    claimed = await claim_one(queue)
    assert (claimed.failures, claimed.attempts) == (1, 1)
    await queue.record_success(claimed, OK, TOOK)

    detail = await deliveries.get("ten_1", claimed.delivery_id)
    assert [(one.number, one.status, one.error, one.response) for one in detail.attempts] == [
        (1, 500, "unexpected_status", "oops"),
        (2, 200, "", "thanks"),
    ]
    assert detail.attempts[0].duration == TOOK
    assert (detail.delivery.attempts, detail.delivery.last_status, detail.delivery.next_attempt_at) == (2, 200, None)
    assert (await endpoints.get("ten_1", made.id)).failing_since is None


async def test_an_exhausted_delivery_can_be_sent_again_with_its_own_id(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    await create()
    (event,) = await publish(1)
    claimed = await claim_one(queue)
    await queue.record_failure(claimed, BROKEN, TOOK, None)
    exhausted = (await deliveries.get("ten_1", claimed.delivery_id)).delivery
    assert (exhausted.state, exhausted.next_attempt_at) == (DeliveryState.EXHAUSTED, None)

    await deliveries.redeliver("ten_1", claimed.delivery_id)

    again = await claim_one(queue)
    assert (again.delivery_id, again.event_id, again.payload) == (claimed.delivery_id, event.id, event.payload)
    # The schedule starts anew, the log goes on.
    assert (again.failures, again.attempts) == (0, 1)


async def test_redelivery_brings_the_next_attempt_forward_but_starts_no_second_one(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any
) -> None:
    await create()
    await publish(1)
    claimed = await claim_one(queue)

    # It is being attempted.
    await deliveries.redeliver("ten_1", claimed.delivery_id)
    assert await queue.find_due(10, 8, {}) == []
    await queue.record_failure(claimed, BROKEN, TOOK, claimed.claimed_at + timedelta(hours=10))
    assert await queue.find_due(10, 8, {}) == []
    # It waits for hours.
    await deliveries.redeliver("ten_1", claimed.delivery_id)
    assert (await claim_one(queue)).delivery_id == claimed.delivery_id


async def test_410_disables_the_endpoint_at_once_and_the_others_hear_of_it(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, endpoints: PostgresWebhooks, create: Any, publish: Any
) -> None:
    ended = await create("ten_1", "job.succeeded")
    other = await create("ten_1", "webhook_endpoint.disabled")
    await create("ten_2")
    await publish(3)

    disabled = await fail(queue, Answer(410, "unexpected_status"))

    assert disabled.reason is DisabledReason.ANSWERED_410
    endpoint = await endpoints.get("ten_1", ended.id)
    assert (endpoint.enabled, endpoint.disabled_reason) == (False, DisabledReason.ANSWERED_410)
    of_ended, _ = await deliveries.list("ten_1", DeliveryFilter(endpoint_id=ended.id), limit=10, after="")
    assert {delivery.state for delivery in of_ended} == {DeliveryState.CANCELLED}
    ((notice,), _) = await deliveries.list("ten_1", DeliveryFilter(endpoint_id=other.id), limit=10, after="")
    assert notice.event_type == "webhook_endpoint.disabled"
    payload = (await deliveries.get("ten_1", notice.id)).payload
    assert ended.id.encode() in payload
    assert await deliveries.list("ten_2", ALL, limit=10, after="") == ([], False)


async def test_an_endpoint_that_only_fails_is_disabled_after_days(
    queue: PostgresDeliveryQueue, endpoints: PostgresWebhooks, create: Any, publish: Any, owner: Any
) -> None:
    made = await create()
    await publish(5)
    assert [await fail(queue) for _ in range(2)] == [None, None]

    # Not so long, although often enough.
    assert await fail(queue) is None
    await owner.execute("UPDATE webhook_endpoints SET failing_since = failing_since - interval '6 days'")
    disabled = await fail(queue)

    assert disabled.reason is DisabledReason.FAILING
    assert (await endpoints.get("ten_1", made.id)).disabled_reason is DisabledReason.FAILING
    revived = await endpoints.update("ten_1", made.id, EndpointChange(enabled=True))
    assert revived.failing_since is None


async def test_one_success_in_time_keeps_an_endpoint(
    queue: PostgresDeliveryQueue, endpoints: PostgresWebhooks, create: Any, publish: Any, owner: Any
) -> None:
    made = await create()
    await publish(8)
    for _ in range(4):
        await fail(queue)
    await owner.execute("UPDATE webhook_endpoints SET failing_since = failing_since - interval '6 days'")
    await queue.record_success(await claim_one(queue), OK, TOOK)

    assert await fail(queue) is None
    assert (await endpoints.get("ten_1", made.id)).enabled


async def test_a_success_locks_an_endpoint_that_has_failed_before_its_delivery(
    queue: PostgresDeliveryQueue, endpoints: PostgresWebhooks, create: Any, publish: Any, owner: Any
) -> None:
    # Who disables an endpoint locks it, and then the deliveries whose lease is over.
    made = await create()
    await publish(1)
    await fail(queue)
    (due,) = await queue.find_due(1, 8, {})
    late = await queue.claim(due, timedelta(0))
    assert late is not None

    async with owner.transaction():
        await owner.execute("SELECT FROM webhook_endpoints WHERE endpoint_id = $1 FOR UPDATE", made.id)
        running = asyncio.ensure_future(queue.record_success(late, OK, TOOK))
        while not await owner.fetchval(WAITS_FOR_THIS_SESSION):
            await asyncio.sleep(0.001)
        await owner.execute("SELECT FROM webhook_deliveries WHERE delivery_id = $1 FOR UPDATE NOWAIT", late.delivery_id)
    await running

    assert (await endpoints.get("ten_1", made.id)).failing_since is None


async def test_what_was_in_progress_when_its_endpoint_was_disabled_ends_with_its_own_result(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, endpoints: PostgresWebhooks, create: Any, publish: Any
) -> None:
    made = await create()
    await publish(3)
    good, bad, lost = [await claim_one(queue) for _ in range(3)]

    await endpoints.update("ten_1", made.id, EndpointChange(enabled=False))
    await queue.record_success(good, OK, TOOK)
    await queue.record_failure(bad, BROKEN, TOOK, bad.claimed_at)

    states = [(await deliveries.get("ten_1", one.delivery_id)).delivery.state for one in (good, bad, lost)]
    assert states == [DeliveryState.SUCCEEDED, DeliveryState.CANCELLED, DeliveryState.PENDING]


async def test_a_delivery_that_is_claimed_for_a_disabled_endpoint_is_cancelled(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any, owner: Any
) -> None:
    await create()
    await publish(1)
    await owner.execute("UPDATE webhook_endpoints SET enabled = false, disabled_reason = 'gone', disabled_at = now()")

    claimed = await claim_one(queue)
    assert (claimed.url, claimed.secrets) == ("", ())
    await queue.cancel(claimed)

    assert (await deliveries.get("ten_1", claimed.delivery_id)).delivery.state is DeliveryState.CANCELLED


async def test_while_secrets_are_rotated_both_sign_and_then_one(
    queue: PostgresDeliveryQueue, endpoints: PostgresWebhooks, create: Any, publish: Any
) -> None:
    made = await create()
    await publish(4)
    (original,) = (await claim_one(queue)).secrets
    second, third = new_secret(), new_secret()

    rotated = await endpoints.rotate("ten_1", made.id, second, timedelta(hours=1))
    assert rotated.previous_secret_expires_at is not None
    assert (await claim_one(queue)).secrets == (second, original)
    await endpoints.rotate("ten_1", made.id, third, timedelta(hours=1))
    assert (await claim_one(queue)).secrets == (third, second)
    await endpoints.rotate("ten_1", made.id, original, timedelta(0))
    assert (await claim_one(queue)).secrets == (original,)


async def test_an_old_secret_signs_no_more_when_it_has_expired(
    queue: PostgresDeliveryQueue, endpoints: PostgresWebhooks, create: Any, publish: Any, owner: Any
) -> None:
    made = await create()
    await publish(1)
    secret = new_secret()
    await endpoints.rotate("ten_1", made.id, secret, timedelta(hours=1))
    await owner.execute("UPDATE webhook_endpoints SET previous_secret_expires_at = now() - interval '1 second'")

    assert (await claim_one(queue)).secrets == (secret,)


async def test_finished_deliveries_are_deleted_after_the_retention(
    queue: PostgresDeliveryQueue, deliveries: PostgresDeliveries, create: Any, publish: Any, owner: Any
) -> None:
    await create()
    await publish(3)
    old, new = await claim_one(queue), await claim_one(queue)
    for claimed in (old, new):
        await queue.record_success(claimed, OK, TOOK)
    await owner.execute(
        "UPDATE webhook_deliveries SET finished_at = now() - interval '31 days' WHERE delivery_id = $1", old.delivery_id
    )

    assert await queue.expire(timedelta(days=30), 100) == 1

    left, _ = await deliveries.list("ten_1", ALL, limit=10, after="")
    assert len(left) == 2
    assert await owner.fetchval("SELECT count(*) FROM webhook_attempts") == 1


async def test_finding_due_deliveries_reads_no_backlog(owner: Any, create: Any) -> None:
    made = await create()
    await owner.execute(
        "INSERT INTO webhook_deliveries (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, due_at)"
        " SELECT 'ten_1', 'whd_' || n, $1, 'evt_' || n, 'job.failed', '{}', now() - interval '1 hour' * (n % 3)"
        " FROM generate_series(1, 20000) AS n",
        made.id,
    )
    await owner.execute("ANALYZE webhook_deliveries")

    explained = await owner.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {FIND_DUE}", 8, 8, [], [])

    (plan,) = json.loads(explained)
    assert plan["Plan"]["Actual Rows"] == 8
    # A scan of the table, or of its index, would read hundreds.
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100


@pytest.mark.parametrize("delivery_id", ["whd_none", ""])
async def test_a_delivery_that_does_not_exist_is_not_claimed(queue: PostgresDeliveryQueue, delivery_id: str) -> None:
    assert await queue.claim(DueDelivery("ten_1", delivery_id, "whe_1"), LEASE) is None
