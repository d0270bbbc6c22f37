"""Terraform builds what it promises and refuses mistakes, and the chart accepts the values that it writes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest
import yaml

from scripts.helm_charts import CHART, SERVICES, render
from scripts.terraform_checks import ENVIRONMENTS, TERRAFORM, TerraformAbsent, copied, run_tests
from scripts.terraform_docs import attribute, blocks, costs

FOLDERS = sorted(path.parent for path in TERRAFORM.glob("*/*/main.tf") if path.parent.parent.name != "tests")


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    with copied() as place:
        yield place


def run_or_skip(folder: Path) -> tuple[list[str], dict[str, str]]:
    try:
        return run_tests(folder)
    except TerraformAbsent as error:
        pytest.skip(str(error))


@pytest.mark.timeout(600)
def test_modules_keep_their_promises(copy: Path) -> None:
    passed, _ = run_or_skip(copy)
    assert set(passed) == set(
        re.findall(r'^run "(\w+)"', (TERRAFORM / "tests/modules.tftest.hcl").read_text(), re.MULTILINE)
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_chart_accepts_what_terraform_writes(copy: Path, environment: str) -> None:
    _, outputs = run_or_skip(copy / "environments" / environment)
    values = yaml.safe_load(outputs["helm_values"])
    profile = yaml.safe_load((CHART / "profiles/production.yaml").read_text())
    own = yaml.safe_load((TERRAFORM / "environments" / environment / "argosy.yaml").read_text())
    everything = merged(merged(profile, values), own)
    jsonschema.validate(everything, orjson.loads((CHART / "values.schema.json").read_text()))
    assert values["global"]["externalSecret"]["remoteKey"] == "argosy-services"
    assert values["global"]["kafka"]["bootstrap"].startswith("b-1.argosy.kafka.")
    if shutil.which("helm"):
        versions = ["keda.sh/v1alpha1/ScaledObject", "external-secrets.io/v1/ExternalSecret"]
        assert "eks.amazonaws.com/role-arn" in render({"api_versions": versions, "values": everything})


def test_the_services_secret_has_the_keys_that_the_chart_names() -> None:
    text = (TERRAFORM / "modules/secrets/main.tf").read_text()
    composed = text[text.index('resource "aws_secretsmanager_secret_version" "services"') :]
    written = set(re.findall(r"^ +([a-z-]+) += ", composed, re.MULTILINE)) | {
        f"{service}-{suffix}"
        for service in SERVICES
        if service != "inference-worker"
        for suffix in ("dsn", "owner-dsn")
    }
    rendered = "".join(path.read_text() for path in (CHART.parent / "scenarios/production/rendered").glob("*.yaml"))
    secrets = set(re.findall(r"secretKeyRef: *\{ *name: argosy, key: ([a-z-]+)", rendered))
    secrets |= set(
        re.findall(r"secretKeyRef:\s+(?:name: argosy\s+key: ([a-z-]+)|key: [a-z-]+\s+name: argosy)", rendered)
    )
    assert len(secrets) > 10
    assert {key for key in secrets if "api-key" not in key and key != "admin-key"} <= written


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_variable_is_typed_and_every_part_described(folder: Path) -> None:
    for kind, wanted in (("variable", ("type", "description")), ("output", ("description",))):
        for name, body in blocks(folder, kind):
            assert all(attribute(body, one) for one in wanted), f"{kind} {name} of {folder.name}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_costs_are_those_of_the_sizes(environment: str) -> None:
    folder = TERRAFORM / "environments" / environment
    sizes = re.findall(r'= "((?:db\.|cache\.|kafka\.|m7i\.)[\w.]+)"', (folder / "main.tf").read_text())
    named = " ".join(item for item, *_ in costs(folder))
    assert len(sizes) == 4
    assert [size for size in sizes if size not in named] == []


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: merged(base[name], v) if isinstance(base.get(name), dict) else v for name, v in change.items()}
    return {**base, **both}
