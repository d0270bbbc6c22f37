"""Upgrades, rollbacks and dead pods under load."""

from __future__ import annotations

import asyncio
import os
import time

import asyncpg
import pytest

from tests.chaos.ledger_checks import INVARIANTS
from tests.cluster.api import await_models, client, ok
from tests.cluster.kube import NAMESPACE, RELEASE, SERVICES, has_keda, kubectl, objects, run, wait_for
from tests.cluster.load import running_load
from tests.cluster.release import Release, add_models, helm

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(1800)]

MODELS = {"sim-stream": "paced?chunks=50&interval=0.1", "sim-instant": "instant"}
NEXT_TAG = os.environ.get("TESTS_CLUSTER_NEXT_TAG")
"""Of the images to upgrade to; without it, the same images are rolled out again."""
SETTLE_SECONDS, HEALED_SECONDS = 240, 10


@pytest.fixture(scope="module")
def upgraded(release: Release) -> Release:
    asyncio.run(add_models(release, MODELS))
    with client(release) as http:
        await_models(http, *MODELS)
    return release


def test_an_upgrade_and_a_rollback_under_load_fail_no_request(upgraded: Release) -> None:
    before = pods()
    with running_load(*MODELS) as load:
        change = ["--set", f"global.image.tag={NEXT_TAG}"] if NEXT_TAG else ["--set-string", "global.secret.revision=2"]
        helm("upgrade", upgraded.values, *change, "--wait")
        between = pods()
        run("helm", "rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m", seconds=400)
        wait_for("the old pods have ended", 120, lambda: not (between & pods()), 2)
    print({**load.counts, "failures": load.failures[:10]})

    assert not before & between
    assert load.failures == []
    assert asyncio.run(violated(upgraded, SETTLE_SECONDS)) == {}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_whose_pod_is_deleted_by_force_heals_and_the_books_stay_exact(
    upgraded: Release, service: str
) -> None:
    with running_load(*MODELS) as load:
        selector = f"app.kubernetes.io/name={service},app.kubernetes.io/instance={RELEASE}"
        pod = kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[0].metadata.name}")
        kubectl("delete", "pod", pod, "--force", "--grace-period=0")
        kubectl("rollout", "status", f"deployment/{RELEASE}-{service}", "--timeout=120s", seconds=150)
    with running_load(*MODELS) as healed:
        time.sleep(HEALED_SECONDS)  # of load
    print(service, {**load.counts, "failures": load.failures[:3]})

    assert healed.failures == []
    assert asyncio.run(violated(upgraded, SETTLE_SECONDS)) == {}


def test_a_pool_that_was_made_at_run_time_follows_the_release(upgraded: Release) -> None:
    if not has_keda():
        pytest.skip("the cluster has no KEDA")
    with client(upgraded, upgraded.admin_key) as admin:
        ok(
            admin.put(
                "/admin/v1/pools/silver", json={"tenant_ids": ["ten_silver"], "min_replicas": 1, "max_replicas": 1}
            )
        )
    helm("upgrade", upgraded.values, "--set-string", "global.secret.revision=3", "--wait")

    wait_for("the pool has the new template", 120, lambda: revision(f"{RELEASE}-inference-worker-silver") == "3")
    kubectl("rollout", "status", f"deployment/{RELEASE}-inference-worker-silver", "--timeout=120s", seconds=150)


def revision(workload: str) -> str:
    path = r"jsonpath={.spec.template.metadata.annotations.argosy\.dev/secret-revision}"
    return kubectl("get", "deployment", workload, "-o", path)


def pods() -> set[str]:
    """The running pods of services."""
    return {
        one["metadata"]["name"]
        for one in objects("pods", "-l", "app.kubernetes.io/part-of=argosy")
        if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
    }


async def violated(release: Release, seconds: float) -> dict[str, int]:
    """The invariants of the books that do not hold; what is still being settled gets `seconds`."""
    connection = await asyncpg.connect(release.superuser_dsn)
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            counts = {name: await connection.fetchval(query) for name, query in INVARIANTS.items()}
            wrong = {name: count for name, count in counts.items() if count}
            if not wrong or asyncio.get_running_loop().time() > deadline:
                return wrong
            await asyncio.sleep(2)
    finally:
        await connection.close()
