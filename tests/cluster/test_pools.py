"""A pool of workers that is made, used, resized, drained and removed by the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.cluster.api import await_models, client, finished, ok, submit_jobs, workers_of
from tests.cluster.kube import NAMESPACE, RELEASE, attempt, has_keda, kubectl, wait_for
from tests.cluster.release import Release, add_models

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(1800)]

MODELS = {"sim-1s": "slow-first-byte?delay=1"}
POOL, WORKLOAD = "/admin/v1/pools/gold", f"{RELEASE}-inference-worker-gold"


@pytest.fixture(scope="module")
def admin(release: Release) -> Iterator[httpx.Client]:
    if not has_keda():
        pytest.skip("the cluster has no KEDA")
    asyncio.run(add_models(release, MODELS))
    with client(release) as http:
        await_models(http, *MODELS)
    with client(release, release.admin_key) as admin:
        yield admin


@contextmanager
def new_tenant(release: Release, admin: httpx.Client) -> Iterator[tuple[str, httpx.Client]]:
    """A tenant, and a client with a key of it."""
    tenant = ok(admin.post("/admin/v1/tenants", json={"name": "gold"}))["id"]
    project = ok(admin.post("/admin/v1/projects", json={"tenant_id": tenant, "name": "jobs"}))["id"]
    key = ok(admin.post("/admin/v1/keys", json={"tenant_id": tenant, "project_id": project}))["key"]
    with client(release, key) as http:
        yield tenant, http


def test_a_pool_is_made_runs_the_jobs_of_its_tenant_alone_and_is_removed(release: Release, admin: httpx.Client) -> None:
    with new_tenant(release, admin) as (tenant, own), client(release) as other:
        began_at = time.monotonic()
        made = admin.put(POOL, json={"tenant_ids": [tenant], "max_replicas": 2})
        print("made:", made.text)
        assert made.status_code == 200
        scaled = kubectl(
            "get", "scaledobject", WORKLOAD, "-o", "jsonpath={.spec.minReplicaCount}/{.spec.maxReplicaCount}"
        )
        assert scaled == "0/2"

        jobs, others = submit_jobs(own, ["sim-1s"] * 20), submit_jobs(other, ["sim-1s"] * 20)
        wait_for("all jobs have ended", 240, lambda: len(asyncio.run(finished(release, [*jobs, *others]))) == 40, 2)
        print(f"from no worker to the end of 20 jobs: {time.monotonic() - began_at:.0f} s; {admin.get(POOL).text}")
        resized = admin.put(POOL, json={"tenant_ids": [tenant], "min_replicas": 1, "max_replicas": 3})
        assert resized.status_code == 200
        wait_for("a ready worker", 120, lambda: ok(admin.get(POOL))["ready_replicas"], 1)

        last = submit_jobs(own, ["sim-1s"] * 5)
        drained = admin.delete(POOL)
        after = submit_jobs(own, ["sim-1s"] * 5)
        wait_for("the pool is not found", 240, lambda: admin.get(POOL).status_code == 404, 2)
        wait_for("the last jobs have ended", 60, lambda: len(asyncio.run(finished(release, after))) == 5, 1)
    ended = asyncio.run(finished(release, [*jobs, *others, *last, *after]))
    gold = asyncio.run(workers_of(release, "gold"))

    assert (drained.status_code, drained.json()["state"]) == (202, "draining")
    assert {row["state"] for row in ended.values()} == {"succeeded"}
    assert {ended[job]["pool"] for job in [*jobs, *last]} == {"gold"}
    assert {ended[job]["worker_id"] for job in [*jobs, *last]} <= gold
    assert {ended[job]["pool"] for job in [*others, *after]} == {"default"}
    assert gold.isdisjoint(ended[job]["worker_id"] for job in [*others, *after])
    kinds = "deployments,scaledobjects,poddisruptionbudgets"
    wait_for("no object of the pool", 60, lambda: WORKLOAD not in kubectl("get", kinds, "-o", "name"), 1)


def test_names_of_the_chart_and_pools_beyond_the_quota_are_refused(admin: httpx.Client) -> None:
    body = {"tenant_ids": ["ten_of_nobody"], "max_replicas": 1}
    taken = admin.put("/admin/v1/pools/default", json=body)
    too_large = admin.put(POOL, json=body | {"max_replicas": 7})

    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "pool_name_taken")
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (429, "pool_quota_exceeded")
    assert admin.get(POOL).status_code == 404


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("create", "deployments.apps", NAMESPACE, "yes"),
        ("create", "deployments.apps", "default", "no"),
        ("list", "deployments.apps", NAMESPACE, "no"),
        ("create", "pods", NAMESPACE, "no"),
        ("get", "secrets", NAMESPACE, "no"),
        ("get", "configmaps/another", NAMESPACE, "no"),
        ("get", f"configmaps/{RELEASE}-pool-template", NAMESPACE, "yes"),
    ],
)
def test_the_orchestrator_may_make_pools_in_its_namespace_and_nothing_else(
    admin: httpx.Client, verb: str, resource: str, namespace: str, allowed: str
) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}-orchestrator"

    asked = attempt("kubectl", "auth", "can-i", verb, resource, account, f"--namespace={namespace}")

    assert asked.stdout.strip() == allowed
