"""The unmodified openai SDK for Node works with the fleet. Its tests are in node/."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.fleet.client import Fleet

HERE = Path(__file__).parent / "node"
BATCH_MODEL = "sim-node-batch"

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]


def run_tests(node: Path, name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, "--test", "--test-reporter=tap", name],
        cwd=HERE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_node_sdk_passes_its_tests(node: Path, fleet_environment: dict[str, str]) -> None:
    run = run_tests(node, "sdk.test.mjs", fleet_environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 9" in run.stdout


def test_the_node_sdk_runs_a_batch_of_2000_lines(node: Path, fleet: Fleet, fleet_environment: dict[str, str]) -> None:
    asyncio.run(fleet.add_model(BATCH_MODEL, upstream_model="instant"))
    run = run_tests(node, "batch.test.mjs", {**fleet_environment, "ARGOSY_BATCH_MODEL": BATCH_MODEL})
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 1" in run.stdout
