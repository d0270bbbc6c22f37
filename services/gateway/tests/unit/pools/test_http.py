"""`/admin/v1/pools`."""

from typing import Any

import httpx
import pytest
from chassis.errors import Kind, RemoteError

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture

POOL = "/admin/v1/pools/gold"
BODY = {"tenant_ids": ["ten_1"], "min_replicas": 0, "max_replicas": 4}


async def test_a_pool_is_made_and_read_with_its_workers(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    made = await admin.put(POOL, json=BODY)
    starting = (await admin.get(POOL)).json()
    gateway.pools.pools["gold"].replicas, gateway.pools.pools["gold"].ready_replicas = 2, 1
    running = (await admin.get(POOL)).json()

    expected = {
        "object": "pool",
        "name": "gold",
        **BODY,
        "state": "active",
        "created_at": 1_700_000_000,
        "unfinished_jobs": 0,
    }
    assert (made.status_code, made.json()) == (200, expected)
    assert starting == {**expected, "replicas": None, "ready_replicas": None}
    assert running == {**expected, "replicas": 2, "ready_replicas": 1}
    assert (await admin.get("/admin/v1/pools")).json() == {"object": "list", "data": [expected]}


async def test_a_pool_that_is_deleted_drains_first(admin: httpx.AsyncClient) -> None:
    await admin.put(POOL, json=BODY)

    deleted = await admin.delete(POOL)

    assert (deleted.status_code, deleted.json()["state"], deleted.json()["tenant_ids"]) == (202, "draining", [])


async def test_changes_are_in_the_audit_of_the_platform(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    await admin.put(POOL, json=BODY)
    await admin.delete(POOL)
    await admin.delete("/admin/v1/pools/silver")

    rows = [r for r in await audit_trail(admin, gateway.tenants["platform"]) if r["action"].startswith("pool.")]
    assert [(row["action"], row["target"], row["outcome"]) for row in rows] == [
        ("pool.delete", "silver", "refused"),
        ("pool.delete", "gold", "done"),
        ("pool.put", "gold", "done"),
    ]


@pytest.mark.parametrize(
    ("kind", "reason", "status"),
    [
        (Kind.CONFLICT, "POOL_NAME_TAKEN", 409),
        (Kind.CONFLICT, "TENANT_HAS_POOL", 409),
        (Kind.EXHAUSTED, "POOL_QUOTA_EXCEEDED", 429),
    ],
)
async def test_the_refusals_of_the_orchestrator_reach_the_client(
    gateway: GatewayFixture, admin: httpx.AsyncClient, kind: Kind, reason: str, status: int
) -> None:
    gateway.pools.refusal = RemoteError(kind, reason, "No.")

    answer = await admin.put(POOL, json=BODY)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, reason.lower())


async def test_without_a_cluster_the_answer_says_so(gateway: GatewayFixture, admin: httpx.AsyncClient) -> None:
    gateway.pools.supported = False

    answers = [await admin.put(POOL, json=BODY), await admin.get("/admin/v1/pools"), await admin.delete(POOL)]

    assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(422, "pools_not_supported")}


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_ids": []},
        {"tenant_ids": ["*"]},
        {"max_replicas": 0},
        {"min_replicas": -1},
        {"min_replicas": 5},
        {"max_replicas": None},
        {"slots": 4},
    ],
)
async def test_a_pool_that_cannot_be_is_refused_with_its_field(
    admin: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    answer = await admin.put(POOL, json=BODY | change)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"]


@pytest.mark.parametrize("name", ["Gold", "1st", "gold-", "a" * 31, "gold_1"])
async def test_a_name_that_topics_or_objects_cannot_have_is_refused(admin: httpx.AsyncClient, name: str) -> None:
    assert (await admin.put(f"/admin/v1/pools/{name}", json=BODY)).status_code == 400


async def test_only_an_admin_sees_or_changes_pools(demo: httpx.AsyncClient) -> None:
    assert {
        (await demo.get("/admin/v1/pools")).status_code,
        (await demo.put(POOL, json=BODY)).status_code,
        (await demo.delete(POOL)).status_code,
    } == {403}
