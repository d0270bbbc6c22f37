"""`make deploy` gives Helm the values that Terraform writes, on the cluster that Terraform names, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
  *"output -raw helm_values") echo "global: {}" ;;
  *"output -raw cluster_name") echo argosy-staging ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for part in ("scripts/deploy", "terraform/environments/staging/argosy.yaml"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    (tmp_path / "terraform/environments/staging/backend.hcl").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("terraform", "aws", "helm"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    return tmp_path


def deploy(checkout: Path, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
    calls = checkout / "calls"
    environment = {
        **os.environ,
        "PATH": f"{checkout / 'programs'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        **variables,
    }
    result = subprocess.run(
        [checkout / "scripts/deploy", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.returncode, calls.read_text().splitlines() if calls.exists() else [], result.stderr


def test_the_chart_is_installed_with_the_written_values_on_the_named_cluster(checkout: Path) -> None:
    status, calls, problems = deploy(checkout, "staging", TAG="1.2.3")
    assert status == 0, problems
    assert [call.split()[0] for call in calls] == ["terraform"] * 5 + ["aws", "helm"]
    assert "--name argosy-staging --kubeconfig .argosy/deploy/staging/kubeconfig" in calls[-2]
    assert "--kubeconfig .argosy/deploy/staging/kubeconfig" in calls[-1]
    assert "--values .argosy/deploy/staging/values.yaml" in calls[-1]
    assert "global.image.tag=1.2.3" in calls[-1]
    assert (checkout / ".argosy/deploy/staging/values.yaml").read_text() == "global: {}\n"


def test_a_plan_changes_nothing(checkout: Path) -> None:
    status, calls, _ = deploy(checkout, "staging", TAG="1.2.3", PLAN="1")
    assert status == 0
    assert [call.split()[2] for call in calls] == ["init", "plan"]


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["stagin"], {"TAG": "1"}, "there is no environment 'stagin'"),
        ([], {"TAG": "1"}, "there is no environment ''"),
        (["staging"], {"TAG": ""}, "TAG is missing"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(
    checkout: Path, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    status, calls, problems = deploy(checkout, *arguments, **variables)
    assert (status, calls) == (2, [])
    assert sentence in problems


def test_a_state_without_a_bucket_is_refused(checkout: Path) -> None:
    (checkout / "terraform/environments/staging/backend.hcl").unlink()
    status, calls, problems = deploy(checkout, "staging", TAG="1")
    assert (status, calls) == (2, [])
    assert "backend.hcl is missing" in problems
