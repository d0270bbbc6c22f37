"""Pools over the Kubernetes API: a server that keeps what is applied, and answers as the API does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi
import orjson
import pytest
from aiohttp import web
from chassis.errors import Internal, Unavailable
from orchestrator.pools.kubernetes import KubernetesPools
from orchestrator.pools.model import Pool, PoolQuotaExceeded, PoolWorkers

TEMPLATE = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "argosy-inference-worker-$POOL", "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "spec": {"template": {"spec": {"containers": [{"env": [{"name": "POOL", "value": "$POOL"}]}]}}},
    },
    {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "argosy-inference-worker-$POOL"},
        "spec": {"minReplicaCount": "$MIN_REPLICAS", "maxReplicaCount": "$MAX_REPLICAS"},
    },
]
GOLD = Pool(
    name="gold",
    tenant_ids=frozenset({"ten_1"}),
    min_replicas=0,
    max_replicas=4,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
DEPLOYMENT = "apis/apps/v1/namespaces/here/deployments/argosy-inference-worker-gold"
SCALED = "apis/keda.sh/v1alpha1/namespaces/here/scaledobjects/argosy-inference-worker-gold"
CONFIG_MAP = "api/v1/namespaces/here/configmaps/template"


class FakeApi:
    """A Kubernetes API. A test may set `refusal`, the status and message of every change."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.requests: list[str] = []
        self.refusal: tuple[int, str] | None = None
        self.keep_template(TEMPLATE)

    def keep_template(self, template: object) -> None:
        text = template if isinstance(template, str) else orjson.dumps(template).decode()
        metadata = {"name": "template", "uid": "uid-1"}
        self.objects[CONFIG_MAP] = {"metadata": metadata, "data": {"objects.json": text}}

    async def handle(self, request: web.Request) -> web.Response:
        path = request.path.lstrip("/")
        self.tokens.append(request.headers["Authorization"])
        self.requests.append(f"{request.method} {path}")
        if request.method != "GET" and self.refusal is not None:
            return web.json_response({"message": self.refusal[1]}, status=self.refusal[0])
        if request.method == "PATCH":
            assert request.content_type == "application/apply-patch+yaml"
            assert request.query["fieldManager"]
            self.objects[path] = orjson.loads(await request.read())
            return web.json_response(self.objects[path], status=201)
        if path not in self.objects:
            return web.json_response({"message": "not found"}, status=404)
        return web.json_response(self.objects.pop(path) if request.method == "DELETE" else self.objects[path])


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("here")
    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    return tmp_path


@pytest.fixture
async def cluster(api: FakeApi, account: Path) -> AsyncIterator[KubernetesPools]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with KubernetesPools(f"http://127.0.0.1:{runner.addresses[0][1]}", account, "template") as cluster:
        yield cluster
    await runner.cleanup()


async def test_a_pool_is_applied_with_its_name_its_numbers_and_its_owner(
    api: FakeApi, cluster: KubernetesPools
) -> None:
    await cluster.apply(GOLD)

    deployment, scaled = api.objects[DEPLOYMENT], api.objects[SCALED]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "gold"
    assert scaled["spec"] == {"minReplicaCount": 0, "maxReplicaCount": 4}
    for thing in (deployment, scaled):
        assert thing["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "argosy-orchestrator"
        assert thing["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "template", "uid": "uid-1"}
        ]


async def test_the_workers_are_those_of_the_deployments_status(api: FakeApi, cluster: KubernetesPools) -> None:
    assert await cluster.workers("gold") is None
    await cluster.apply(GOLD)
    assert await cluster.workers("gold") == PoolWorkers(0, 0)

    api.objects[DEPLOYMENT]["status"] = {"replicas": 3, "readyReplicas": 2}

    assert await cluster.workers("gold") == PoolWorkers(3, 2)


async def test_objects_of_the_name_that_were_not_made_here_are_foreign_and_are_not_deleted(
    api: FakeApi, cluster: KubernetesPools
) -> None:
    assert not await cluster.is_foreign("gold")
    api.objects[DEPLOYMENT] = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}

    assert await cluster.is_foreign("gold")
    await cluster.delete("gold")

    assert DEPLOYMENT in api.objects


async def test_what_was_made_here_is_not_foreign_and_is_deleted_the_autoscaler_first(
    api: FakeApi, cluster: KubernetesPools
) -> None:
    await cluster.apply(GOLD)
    assert not await cluster.is_foreign("gold")

    await cluster.delete("gold")
    await cluster.delete("gold")

    assert api.objects.keys() == {CONFIG_MAP}
    assert [one for one in api.requests if one.startswith("DELETE")] == [f"DELETE {SCALED}", f"DELETE {DEPLOYMENT}"]


async def test_a_renewed_token_is_used_by_the_next_request(
    api: FakeApi, cluster: KubernetesPools, account: Path
) -> None:
    await cluster.workers("gold")
    (account / "token").write_text("second")
    await cluster.workers("gold")

    assert (api.tokens[0], api.tokens[-1]) == ("Bearer first", "Bearer second")


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (403, 'deployments.apps "x" is forbidden: exceeded quota: pools', PoolQuotaExceeded),
        (403, "is forbidden: User cannot patch", Internal),
        (422, "is invalid", Internal),
        (409, "the object has been modified", Unavailable),
        (429, "too many requests", Unavailable),
        (500, "etcd", Unavailable),
    ],
)
async def test_what_the_api_refuses_becomes_an_error_of_its_kind(
    api: FakeApi, cluster: KubernetesPools, status: int, message: str, error: type[Exception]
) -> None:
    api.refusal = (status, message)

    with pytest.raises(error, match=str(status) if error is not PoolQuotaExceeded else "quota"):
        await cluster.apply(GOLD)


async def test_an_api_that_does_not_answer_is_unavailable(account: Path) -> None:
    async with KubernetesPools("http://127.0.0.1:9", account, "template") as cluster:
        with pytest.raises(Unavailable):
            await cluster.workers("gold")


@pytest.mark.parametrize(
    "template",
    [
        "{",
        [{"kind": "Deployment"}],
        [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a-$POOL"}}],
        [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a-gateway"}}],
    ],
)
async def test_a_template_that_the_chart_has_not_written_is_refused_before_any_change(
    api: FakeApi, cluster: KubernetesPools, template: object
) -> None:
    api.keep_template(template)

    with pytest.raises(Internal):
        await cluster.apply(GOLD)

    assert api.objects.keys() == {CONFIG_MAP}


async def test_without_the_template_nothing_is_applied(api: FakeApi, cluster: KubernetesPools) -> None:
    del api.objects[CONFIG_MAP]

    with pytest.raises(Internal, match="template"):
        await cluster.apply(GOLD)
