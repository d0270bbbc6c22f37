"""The charts on a real cluster: installed, asked, and what they leave in it."""

from __future__ import annotations

from pathlib import Path

import openai
import orjson
import pytest
import yaml
from argosy_dev.commands.sample_document import FILENAME, pdf

from scripts.helm_charts import scenarios
from tests.cluster.api import await_models, client
from tests.cluster.kube import NAMESPACE, RELEASE, attempt, kubectl, objects, run
from tests.cluster.release import Release

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(900)]
# Of operators that a cluster may lack.
OPTIONAL = ("keda.sh/", "monitoring.coreos.com/", "external-secrets.io/", "gateway.networking.k8s.io/")


def test_helm_test_passes(release: Release) -> None:
    print(f"helm install to all pods ready: {release.install_seconds:.0f} s")

    shown = run("helm", "test", RELEASE, "--namespace", NAMESPACE, "--logs", seconds=200)

    print(shown)
    assert "Succeeded" in shown


def test_every_deployment_is_ready_in_a_namespace_that_takes_restricted_pods_alone(release: Release) -> None:
    ready = {one["metadata"]["name"]: one["status"].get("readyReplicas") for one in objects("deployments")}

    assert len(ready) == 5
    assert all(ready.values()), ready


def test_every_pod_passes_the_restricted_level(release: Release) -> None:
    """Pods that an operator might have let pass are shown again to the API server, as they run."""
    for pod in objects("pods"):
        fresh = {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"]}
        fresh["metadata"] = {"name": f"again-{pod['metadata']['name']}"[:60], "namespace": NAMESPACE}
        fresh["spec"].pop("nodeName", None)
        result = attempt("kubectl", "create", "--dry-run=server", "-f", "-", stdin=orjson.dumps(fresh).decode())
        assert result.returncode == 0, result.stderr
        assert "violate" not in result.stderr


def test_no_object_but_the_secret_contains_a_secret(release: Release) -> None:
    shown = kubectl("get", "deployments,replicasets,jobs,pods,configmaps,services", "-o", "yaml")

    assert [name for name, value in release.secret.items() if value in shown] == []


def test_a_question_over_a_document_is_answered_with_its_source(release: Release) -> None:
    with client(release) as http:
        await_models(http, "smollm2")
        sdk = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=release.api_key, timeout=120)
        file = sdk.files.create(file=(FILENAME, pdf()), purpose="assistants")
        store = sdk.vector_stores.create(name="guide")
        attached = sdk.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=200)
        assert attached.status == "completed", attached.last_error
        answer = sdk.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What does the gateway check?"}],
            max_tokens=64,
            temperature=0,
            extra_body={"argosy": {"retrieval": {"vector_store_ids": [store.id], "limit": 2}}},
        )

    print(answer.choices[0].message.content, answer.usage)
    sources = (answer.model_extra or {})["argosy"]["sources"]
    assert sources[0]["filename"] == FILENAME
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("case", scenarios(), ids=lambda path: path.name)
def test_the_cluster_accepts_every_rendered_object(release: Release, case: Path) -> None:
    served = set(kubectl("api-versions").split())
    for path in sorted(case.glob("rendered/*.yaml")):
        things = [thing for thing in yaml.load_all(path.read_text(), yaml.CSafeLoader) if thing]
        known = [t for t in things if t["apiVersion"] in served or not t["apiVersion"].startswith(OPTIONAL)]
        # Another name: what is compared with an installed object would have to be a valid change of it.
        text = yaml.safe_dump_all(known).replace(f"{RELEASE}-", "scenario-")
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=text)
