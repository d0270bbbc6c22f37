"""The charts, by what they render to: helm/scenarios/<case>/rendered."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml
from orchestrator.pools.model import Pool
from orchestrator.pools.template import render

from scripts.helm_charts import CHART, HELM, SERVICES, scenarios
from tests.contract.rendered import CASES, KINDS_OF_PODS, objects, pod, pod_spec, pods, setting

ROOT = HELM.parent


@pytest.mark.parametrize("case", CASES)
def test_every_pod_satisfies_the_restricted_level(case: str) -> None:
    for name, spec in pods(case):
        security = spec["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] != 0, name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        needs_token = name == "argosy-orchestrator" and bool(objects(case, "RoleBinding"))
        assert spec["automountServiceAccountToken"] is needs_token, name
        assert all({"emptyDir", "secret", "configMap", "persistentVolumeClaim"} & v.keys() for v in spec["volumes"])
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"], name
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name


@pytest.mark.parametrize("case", CASES)
def test_a_pod_is_killed_only_after_its_drain(case: str) -> None:
    for thing in objects(case, "Deployment"):
        spec = pod_spec(thing)
        (container,) = spec["containers"]
        (drain,) = (int(e["value"]) for e in container["env"] if e["name"].endswith("_DRAIN"))
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert spec["terminationGracePeriodSeconds"] > pause + drain, thing["metadata"]["name"]


@pytest.mark.parametrize("case", CASES)
def test_grpc_services_are_headless_so_that_clients_see_all_replicas(case: str) -> None:
    services = [s for s in objects(case, "Service") if any(p["name"] == "grpc" for p in s["spec"]["ports"])]

    assert {s["metadata"]["name"] for s in services} == {f"argosy-{n}" for n in SERVICES if n != "gateway"}
    assert all(s["spec"]["clusterIP"] == "None" for s in services)


@pytest.mark.parametrize("case", CASES)
def test_every_selector_finds_the_pods_of_its_deployment_alone(case: str) -> None:
    labels = [(d["metadata"]["name"], d["spec"]["template"]["metadata"]["labels"]) for d in objects(case, "Deployment")]
    for thing in objects(case, "Deployment", "PodDisruptionBudget"):
        wanted = thing["spec"]["selector"]["matchLabels"].items()
        assert [name for name, found in labels if wanted <= found.items()] == [thing["metadata"]["name"]]


@pytest.mark.parametrize("case", CASES)
def test_each_deployment_has_a_fixed_size_or_one_autoscaler(case: str) -> None:
    scalers = [s["spec"]["scaleTargetRef"]["name"] for s in objects(case, "HorizontalPodAutoscaler", "ScaledObject")]

    assert len(scalers) == len(set(scalers))
    for thing in objects(case, "Deployment"):
        assert ("replicas" in thing["spec"]) != (thing["metadata"]["name"] in scalers), thing["metadata"]["name"]


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_denied_what_no_policy_allows_it(case: str) -> None:
    policies = objects(case, "NetworkPolicy")
    if case == "dev":
        assert not policies
        return
    deny = next(p["spec"] for p in policies if p["metadata"]["name"] == "argosy-default-deny")
    assert {"ingress", "egress"}.isdisjoint(deny)
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    for thing in objects(case, *KINDS_OF_PODS):
        labels = pod(thing)["metadata"]["labels"]
        assert deny["podSelector"]["matchLabels"].items() <= labels.items(), thing["metadata"]["name"]


@pytest.mark.parametrize("case", CASES)
def test_the_owner_creates_the_indexes_of_large_stores_every_night(case: str) -> None:
    (cron_job,) = objects(case, "CronJob")
    (container,) = pod_spec(cron_job)["containers"]

    assert container["args"] == ["indexes", "--create"]
    assert "RETRIEVAL_POSTGRES__OWNER_DSN" in {entry["name"] for entry in container["env"]}
    # A second run beside a long one would do nothing.
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    policies = [p["spec"] for p in objects(case, "NetworkPolicy") if p["metadata"]["name"] == "argosy-hooks"]
    reached = [value for policy in policies for e in policy["podSelector"]["matchExpressions"] for value in e["values"]]
    assert case == "dev" or pod(cron_job)["metadata"]["labels"]["argosy.dev/hook"] in reached


@pytest.mark.parametrize("case", ["production", "premium-pool", "hpa", "external-secret"])
def test_workers_reach_providers_and_no_private_address_beside_their_stores(case: str) -> None:
    policy = next(p for p in objects(case, "NetworkPolicy") if p["metadata"]["name"] == "argosy-inference-worker")
    ports = {rule["ports"][0]["port"]: rule for rule in policy["spec"]["egress"]}

    assert set(ports) - {4317} == {53, 9000, 6379, 9092, 443}
    assert "10.0.0.0/8" in ports[443]["to"][0]["ipBlock"]["except"]


def test_a_pool_has_topics_a_plan_and_a_scaler_of_its_own() -> None:
    (topics,) = (t for t in objects("premium-pool", "Job") if t["metadata"]["name"] == "argosy-orchestrator-topics")
    scaler = next(
        s for s in objects("premium-pool", "ScaledObject") if s["metadata"]["name"] == "argosy-inference-worker-premium"
    )

    assert pod_spec(topics)["containers"][0]["args"] == ["topics", "--pool", "premium"]
    assert setting("premium-pool", "argosy-inference-worker-premium", "INFERENCE_WORKER_JOBS__POOL") == "premium"
    assert setting("premium-pool", "argosy-orchestrator", "ORCHESTRATOR_JOBS__PLANS__PREMIUM__POOL") == "premium"
    assert scaler["spec"]["minReplicaCount"] == 0
    assert {trigger["metadata"]["pool"] for trigger in scaler["spec"]["triggers"]} == {"premium"}


@pytest.mark.parametrize("case", ["production", "premium-pool"])
def test_the_orchestrator_accepts_the_metadata_of_every_trigger(case: str) -> None:
    from orchestrator.autoscaling.model import ScalingQuery

    scaler = next(s for s in objects(case, "Service") if s["metadata"]["name"] == "argosy-orchestrator-scaler")
    for thing in objects(case, "ScaledObject"):
        for trigger in thing["spec"]["triggers"]:
            assert ScalingQuery.read(trigger["metadata"]).target > 0
            assert trigger["metadata"]["scalerAddress"] == (
                f"{scaler['metadata']['name']}.argosy:{scaler['spec']['ports'][0]['port']}"
            )


def test_the_chart_has_all_alerts() -> None:
    assert {path.name: path.read_text() for path in (CHART / "files/alerts").glob("*.yaml")} == {
        path.name: path.read_text() for path in (ROOT / "ops/alerts").glob("*.yaml")
    }


def test_every_external_metric_reads_declared_metrics() -> None:
    declared = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE))
    adapter = yaml.safe_load((HELM / "prometheus-adapter-rules.yaml").read_text())["rules"]["external"]
    queries = [rule["metricsQuery"] for rule in adapter]
    read = {name for query in queries for name in re.findall(r"\b(?:argosy|[a-z_]+?)_\w+(?=[{\[)])", query)}

    assert read
    assert read <= declared


@pytest.mark.parametrize("profile", sorted((CHART / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_rendered_by_a_scenario(profile: Path) -> None:
    used = [yaml.safe_load((path / "scenario.yaml").read_text()).get("profiles", []) for path in scenarios()]

    assert any(profile.stem in names for names in used)


def test_pools_that_are_made_at_run_time_are_as_those_of_the_chart() -> None:
    """Filled in by the orchestrator with the facts of a pool of the chart, the template has that pool's objects."""
    (config_map,) = objects("premium-pool", "ConfigMap")
    premium = Pool(
        name="premium",
        tenant_ids=frozenset(),
        min_replicas=0,
        max_replicas=10,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    for made in render(config_map["data"]["objects.json"], premium, {"kind": "ConfigMap"}):
        of_chart = next(
            thing
            for thing in objects("premium-pool", made["kind"])
            if thing["metadata"]["name"] == made["metadata"]["name"] == "argosy-inference-worker-premium"
        )
        made["metadata"] = of_chart["metadata"]
        if made["kind"] == "Deployment":
            assert made["spec"]["template"]["metadata"]["labels"].pop("argosy.dev/runtime-pool") == "true"
        if made["kind"] == "ScaledObject":  # the time for waiting work is set by pool in the chart
            made["spec"]["triggers"] = [t for t in made["spec"]["triggers"] if t["metadata"]["metric"] == "jobs"]
            of_chart["spec"]["triggers"] = of_chart["spec"]["triggers"][:1]
        assert made == of_chart


def test_the_orchestrator_may_do_in_the_cluster_only_what_pools_need() -> None:
    (role,) = objects("premium-pool", "Role")
    (config_map,) = objects("premium-pool", "ConfigMap")
    made = {thing["kind"].lower() + "s" for thing in orjson.loads(config_map["data"]["objects.json"])}

    allowed = {r for rule in role["rules"] if "create" in rule["verbs"] for r in rule["resources"]}
    assert allowed == made
    assert all(set(rule["verbs"]) <= {"get", "create", "patch", "delete"} for rule in role["rules"])
    (template,) = (rule for rule in role["rules"] if rule["resources"] == ["configmaps"])
    assert (template["verbs"], template["resourceNames"]) == (["get"], [config_map["metadata"]["name"]])
    assert setting("premium-pool", "argosy-orchestrator", "ORCHESTRATOR_POOLS__TEMPLATE") in template["resourceNames"]
    assert not objects("production", "Role", "ClusterRole")
