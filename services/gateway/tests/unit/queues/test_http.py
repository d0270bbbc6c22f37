"""`/admin/v1/queues` and `/admin/v1/jobs`."""

from typing import Any

import httpx
import pytest
from argosy.common.v1 import common_pb2
from argosy.orchestration.v1 import jobs_pb2 as pb

from services.gateway.tests.fakes.admin import audit_trail
from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.jobs import a_job


@pytest.fixture
def tenant(gateway: GatewayFixture) -> str:
    """A tenant with a quarantined job and one that waits."""
    tenant_id = gateway.tenants["demo"]
    error = common_pb2.Error(kind="unavailable", reason="WORKER_LOST", message="The worker died.")
    gateway.jobs.put(tenant_id, a_job("job_1", pb.JOB_STATE_QUARANTINED, crashes=3, error=error))
    gateway.jobs.put(tenant_id, a_job("job_2"))
    return tenant_id


async def test_queues_are_listed_and_what_is_unknown_is_null(admin: httpx.AsyncClient) -> None:
    body = (await admin.get("/admin/v1/queues")).json()

    batch, interactive = body["data"]
    assert batch == {
        "object": "queue",
        "pool": "default",
        "lane": "batch",
        "queued": 3,
        "dispatched": 2,
        "running": 1,
        "oldest_wait_seconds": 7.5,
        "queued_tokens": 900,
        "work_seconds": 4.5,
        "slots": 32,
        "tenants": 2,
    }
    assert (interactive["queued"], interactive["oldest_wait_seconds"], interactive["work_seconds"]) == (0, None, None)
    assert body["paused"] == []


async def test_a_pause_is_listed_ended_and_in_the_audit(
    gateway: GatewayFixture, admin: httpx.AsyncClient, tenant: str
) -> None:
    selector = {"tenant_id": tenant, "model": "smollm2"}
    assert (await admin.post("/admin/v1/queues/pause", json=selector)).status_code == 204
    paused = (await admin.get("/admin/v1/queues")).json()["paused"]
    assert (await admin.post("/admin/v1/queues/resume", json=selector)).status_code == 204

    assert paused == [{"tenant_id": tenant, "pool": None, "model": "smollm2"}]
    assert gateway.queues.paused == []
    entries = [row for row in await audit_trail(admin, tenant) if row["action"].startswith("queue.")]
    assert [(row["action"], row["outcome"]) for row in entries] == [("queue.resume", "done"), ("queue.pause", "done")]
    assert entries[0]["target"] == f"tenant={tenant},model=smollm2"


async def test_a_pause_of_all_tenants_is_in_the_audit_of_the_platform(
    gateway: GatewayFixture, admin: httpx.AsyncClient
) -> None:
    await admin.post("/admin/v1/queues/pause", json={"pool": "gpu"})

    (entry,) = [row for row in await audit_trail(admin, gateway.tenants["platform"]) if row["action"] == "queue.pause"]
    assert entry["target"] == "pool=gpu"


@pytest.mark.parametrize("body", [{}, {"tenant_id": None}, {"pool": ""}, {"lane": "batch"}])
async def test_a_pause_of_nothing_in_particular_is_refused(admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await admin.post("/admin/v1/queues/pause", json=body)).status_code == 400


async def test_quarantined_jobs_of_all_tenants_are_listed(admin: httpx.AsyncClient, tenant: str) -> None:
    body = (await admin.get("/admin/v1/jobs")).json()

    (job,) = body["data"]
    assert (job["id"], job["tenant_id"], job["crashes"], job["error"]["code"]) == ("job_1", tenant, 3, "worker_lost")
    assert (await admin.get("/admin/v1/jobs", params={"tenant_id": "ten_other"})).json()["data"] == []
    waiting = await admin.get("/admin/v1/jobs", params={"state": "queued", "tenant_id": tenant})
    assert [job["id"] for job in waiting.json()["data"]] == ["job_2"]
    assert (await admin.get("/admin/v1/jobs", params={"state": "failed"})).status_code == 400


async def test_a_job_is_inspected_without_its_result(
    gateway: GatewayFixture, admin: httpx.AsyncClient, tenant: str
) -> None:
    gateway.jobs.put(tenant, a_job("job_3", pb.JOB_STATE_SUCCEEDED, result=b'{"secret":"of the tenant"}'))

    response = await admin.get("/admin/v1/jobs/job_3", params={"tenant_id": tenant})

    body = response.json()
    assert (body["tenant_id"], body["worker_id"], body["epoch"], body["job"]["id"]) == (tenant, "worker-1", 6, "job_3")
    assert "secret" not in response.text


@pytest.mark.parametrize(("action", "state"), [("retry", "queued"), ("drop", "failed")])
async def test_a_quarantined_job_is_retried_or_dropped_and_that_is_in_the_audit(
    admin: httpx.AsyncClient, tenant: str, action: str, state: str
) -> None:
    response = await admin.post(f"/admin/v1/jobs/job_1/{action}", json={"tenant_id": tenant})

    assert response.json()["state"] == state
    (entry,) = [row for row in await audit_trail(admin, tenant) if row["action"] == f"job.{action}"]
    assert (entry["target"], entry["outcome"]) == ("job_1", "done")


@pytest.mark.parametrize("action", ["retry", "drop"])
async def test_only_a_quarantined_job_is_retried_or_dropped(admin: httpx.AsyncClient, tenant: str, action: str) -> None:
    waiting = await admin.post(f"/admin/v1/jobs/job_2/{action}", json={"tenant_id": tenant})
    unknown = await admin.post(f"/admin/v1/jobs/job_9/{action}", json={"tenant_id": tenant})

    assert (waiting.status_code, waiting.json()["error"]["code"]) == (409, "job_not_quarantined")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "job_not_found")
    outcomes = {row["outcome"] for row in await audit_trail(admin, tenant) if row["action"] == f"job.{action}"}
    assert outcomes == {"refused"}


async def test_only_an_admin_sees_or_acts(demo: httpx.AsyncClient, tenant: str) -> None:
    answers = [
        await demo.get("/admin/v1/queues"),
        await demo.post("/admin/v1/queues/pause", json={"pool": "default"}),
        await demo.post("/admin/v1/queues/resume", json={"pool": "default"}),
        await demo.get("/admin/v1/jobs"),
        await demo.get("/admin/v1/jobs/job_1", params={"tenant_id": tenant}),
        await demo.post("/admin/v1/jobs/job_1/retry", json={"tenant_id": tenant}),
        await demo.post("/admin/v1/jobs/job_1/drop", json={"tenant_id": tenant}),
    ]
    assert {answer.status_code for answer in answers} == {403}
