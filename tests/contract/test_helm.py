"""The charts, by what they render to: helm/scenarios/<case>/rendered. Only the last tests need helm itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from scripts.helm_charts import CHART, HELM, SERVICES, HelmFailed, render, scenarios

ROOT = HELM.parent
CASES = [path.name for path in scenarios()]
REFERENCE = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
KNOWN = [
    re.compile(re.escape(name).replace("<NAME>", "[A-Z0-9]+(?:_[A-Z0-9]+)*"))
    for name in re.findall(r"^\| `([A-Z0-9_<>]+)` \|", REFERENCE, re.MULTILINE)
]
SECRET = re.compile(r"^\| `([A-Z0-9_<>]+)` \| (?:list: |mapping: )?secret \|", re.MULTILINE)
SECRET_SETTINGS = [re.compile(re.escape(n).replace("<NAME>", "[A-Z0-9_]+")) for n in SECRET.findall(REFERENCE)]
FIRST_KEYS = {"ARGOSY_ADMIN_KEY", "ARGOSY_API_KEY", "RELEASE"}
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")


@cache
def everything(case: str) -> list[dict[str, Any]]:
    paths = sorted((HELM / "scenarios" / case / "rendered").glob("*.yaml"))
    return [thing for path in paths for thing in yaml.load_all(path.read_text(), yaml.CSafeLoader) if thing]


def objects(case: str, *kinds: str) -> list[dict[str, Any]]:
    found = everything(case)
    return [thing for thing in found if not kinds or thing["kind"] in kinds]


def pod_spec(thing: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = thing["spec"] if thing["kind"] == "Pod" else thing["spec"]["template"]["spec"]
    return spec


def pods(case: str) -> list[tuple[str, dict[str, Any]]]:
    return [(thing["metadata"]["name"], pod_spec(thing)) for thing in objects(case, "Deployment", "Job", "Pod")]


def variables(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in pods(case):
        yield from ((name, entry) for container in spec["containers"] for entry in container.get("env", ()))


def deployment(case: str, name: str) -> dict[str, Any]:
    return next(thing for thing in objects(case, "Deployment") if thing["metadata"]["name"] == name)


def setting(case: str, workload: str, variable: str) -> str:
    spec = pod_spec(deployment(case, workload))
    return next(str(e["value"]) for e in spec["containers"][0]["env"] if e["name"] == variable)


@pytest.mark.parametrize("case", CASES)
def test_every_setting_that_a_chart_writes_is_in_the_reference(case: str) -> None:
    written = {entry["name"] for _, entry in variables(case)} - FIRST_KEYS

    assert written
    assert {name for name in written if not any(known.fullmatch(name) for known in KNOWN)} == set()


@pytest.mark.parametrize("case", CASES)
def test_no_variable_is_set_twice(case: str) -> None:
    for name, spec in pods(case):
        names = [entry["name"] for container in spec["containers"] for entry in container.get("env", ())]
        assert len(names) == len(set(names)), name


@pytest.mark.parametrize("case", CASES)
def test_secret_settings_come_from_the_secret_and_no_object_contains_one(case: str) -> None:
    for workload, entry in variables(case):
        if any(secret.fullmatch(entry["name"]) for secret in SECRET_SETTINGS):
            assert "value" not in entry, (workload, entry["name"])
    assert not objects(case, "Secret")


@pytest.mark.parametrize("case", CASES)
def test_only_migrations_have_the_address_of_a_schemas_owner(case: str) -> None:
    owners = {workload for workload, entry in variables(case) if entry["name"].endswith("OWNER_DSN")}

    assert owners == {f"argosy-{name}-migrate" for name in SERVICES if name != "inference-worker"}


@pytest.mark.parametrize("case", CASES)
def test_every_pod_satisfies_the_restricted_level(case: str) -> None:
    for name, spec in pods(case):
        security = spec["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] != 0, name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert spec["automountServiceAccountToken"] is False, name
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
def test_the_rate_limits_know_how_many_gateways_there_can_be(case: str) -> None:
    scalers = objects(case, "HorizontalPodAutoscaler")
    most = [s["spec"]["maxReplicas"] for s in scalers if s["metadata"]["name"] == "argosy-gateway"]
    replicas = most[0] if most else deployment(case, "argosy-gateway")["spec"]["replicas"]

    assert setting(case, "argosy-gateway", "GATEWAY_RATES__REPLICAS") == str(replicas)


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_denied_what_no_policy_allows_it(case: str) -> None:
    policies = objects(case, "NetworkPolicy")
    if case == "dev":
        assert not policies
        return
    deny = next(p["spec"] for p in policies if p["metadata"]["name"] == "argosy-default-deny")
    assert {"ingress", "egress"}.isdisjoint(deny)
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    for thing in objects(case, "Deployment", "Job", "Pod"):
        own = thing["metadata"] if thing["kind"] == "Pod" else thing["spec"]["template"]["metadata"]
        assert deny["podSelector"]["matchLabels"].items() <= own["labels"].items(), thing["metadata"]["name"]


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


def test_every_value_is_typed_and_described() -> None:
    def undescribed(part: Mapping[str, Any], path: str) -> Iterator[str]:
        for name, inner in part.get("properties", {}).items():
            if name in {"global", "argosy-lib"} and path:
                continue
            if not {"type", "description"} <= inner.keys():
                yield f"{path}.{name}"
            yield from undescribed(inner, f"{path}.{name}")

    schema = orjson.loads((CHART / "values.schema.json").read_text())
    assert list(undescribed(schema, "")) == []
    assert [name for part in schema["definitions"].values() for name in undescribed(part, "definition")] == []


BASE: dict[str, Any] = {"global": {"kafka": {"bootstrap": "kafka:9092"}}, "retrieval": {"objectsUrl": "s3://files"}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"gateway": {"replica": 3}}, "'/gateway'.*'replica' not allowed"),
    "a wrong type": ({"metering": {"replicas": "three"}}, "at '/metering/replicas'"),
    "a setting of no service": ({"gateway": {"env": {"PORT": 1}}}, "'PORT' does not match"),
    "an unknown mode": ({"global": {"autoscaling": {"mode": "vpa"}}}, "at '/global/autoscaling/mode'"),
    "KEDA that is absent": ({"global": {"autoscaling": {"mode": "keda"}}}, "Install KEDA first"),
    "no brokers": ({"global": {"kafka": {"bootstrap": ""}}}, r"global\.kafka\.bootstrap"),
    "no object store": ({"retrieval": {"objectsUrl": ""}}, r"retrieval\.objectsUrl"),
    "a folder for replicas": ({"retrieval": {"objectsUrl": "file:///data"}}, "which replicas do not share"),
    "a plan without its pool": ({"orchestrator": {"plans": {"gold": {"pool": "gold"}}}}, "no pool gold"),
    "a pool of none without KEDA": (
        {
            "global": {
                "autoscaling": {"mode": "hpa"},
                "pools": {"gold": {"replicas": 1, "minReplicas": 0, "maxReplicas": 2, "slots": 4}},
            }
        },
        "pool gold: minReplicas 0 needs",
    ),
}


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: merged(base[name], v) if isinstance(base.get(name), dict) else v for name, v in change.items()}
    return {**base, **both}


@needs_helm
@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_in_the_values_is_refused_with_its_path(mistake: str) -> None:
    change, message = BAD[mistake]

    with pytest.raises(HelmFailed, match=message):
        render({"values": merged(BASE, change)})


@needs_helm
def test_the_least_values_render() -> None:
    assert "kind: Deployment" in render({"values": BASE})
