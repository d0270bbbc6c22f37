"""The settings that the charts write: they exist, services accept them, and secrets stay in the Secret."""

from __future__ import annotations

import importlib
import os
import re
from secrets import token_hex

import certifi
import pytest
from chassis.settings import load

from scripts.helm_charts import ROOT, SERVICES
from tests.contract.rendered import CASES, deployment, objects, pod_spec, pods, setting, variables

REFERENCE = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
KNOWN = [
    re.compile(re.escape(name).replace("<NAME>", "[A-Z0-9]+(?:_[A-Z0-9]+)*"))
    for name in re.findall(r"^\| `([A-Z0-9_<>]+)` \|", REFERENCE, re.MULTILINE)
]
SECRET = re.compile(r"^\| `([A-Z0-9_<>]+)` \| (?:list: |mapping: )?secret \|", re.MULTILINE)
SECRET_SETTINGS = [re.compile(re.escape(n).replace("<NAME>", "[A-Z0-9_]+")) for n in SECRET.findall(REFERENCE)]
FIRST_KEYS = {"ARGOSY_ADMIN_KEY", "ARGOSY_API_KEY", "RELEASE"}
# What a scenario's configuration names.
SECRETS_OF_CREDENTIALS = {"OPENAI_API_KEY"}
PREFIXES = tuple(f"{name.upper().replace('-', '_')}_" for name in SERVICES)
SCHEMAS = ("gateway", "orchestrator", "metering", "retrieval")
EXAMPLES = {
    "principal-secrets": token_hex(32),
    "signing-keys": f"one:{token_hex(32)}",
    "webhook-secret-keys": token_hex(32),
    "redis-url": "rediss://user:word@redis.example:6380/0",
    "kafka-password": "word",
    "openai-api-key": "key",
    "anthropic-api-key": "key",
    "admin-key": "key",
    "api-key": "key",
    "counted-causes": '["client"]',
    **{f"{name}{role}-dsn": "postgresql://a:b@db.example/argosy" for name in SCHEMAS for role in ("", "-owner")},
}
"""A value for each key of the Secret that a scenario reads."""


@pytest.mark.parametrize("case", CASES)
def test_every_setting_that_a_chart_writes_is_in_the_reference(case: str) -> None:
    written = {entry["name"] for _, entry in variables(case)} - FIRST_KEYS - SECRETS_OF_CREDENTIALS

    assert written
    assert {name for name in written if not any(known.fullmatch(name) for known in KNOWN)} == set()


@pytest.mark.parametrize("case", CASES)
def test_every_service_accepts_the_settings_of_its_pods(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)
    for thing in objects(case, "Deployment", "Job", "CronJob"):
        module = next(n for n in SERVICES if thing["metadata"]["labels"]["app.kubernetes.io/name"] == n).replace(
            "-", "_"
        )
        with monkeypatch.context() as environment:
            for entry in pod_spec(thing)["containers"][0]["env"]:
                if entry["name"].endswith("CA_FILE"):  # on a volume
                    environment.setenv(entry["name"], certifi.where())
                    continue
                reference = entry.get("valueFrom", {}).get("secretKeyRef", {})
                environment.setenv(entry["name"], entry["value"] if "value" in entry else EXAMPLES[reference["key"]])
            load(importlib.import_module(f"{module}.settings").Settings)  # exits on a setting that it refuses


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
def test_only_migrations_and_the_creation_of_indexes_have_the_address_of_a_schemas_owner(case: str) -> None:
    owners = {workload for workload, entry in variables(case) if entry["name"].endswith("OWNER_DSN")}

    migrations = {f"argosy-{name}-migrate" for name in SERVICES if name != "inference-worker"}
    assert owners == migrations | {"argosy-retrieval-indexes"}


def test_a_large_number_is_written_with_all_its_digits() -> None:
    assert setting("external-secret", "argosy-gateway", "GATEWAY_LIMITS__JSON_BYTES") == "4194304"


@pytest.mark.parametrize("case", CASES)
def test_the_rate_limits_know_how_many_gateways_there_can_be(case: str) -> None:
    scalers = objects(case, "HorizontalPodAutoscaler")
    most = [s["spec"]["maxReplicas"] for s in scalers if s["metadata"]["name"] == "argosy-gateway"]
    replicas = most[0] if most else deployment(case, "argosy-gateway")["spec"]["replicas"]

    assert setting(case, "argosy-gateway", "GATEWAY_RATES__REPLICAS") == str(replicas)
