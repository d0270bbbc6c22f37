"""The unmodified openai SDK for Node works with the fleet. Its tests are in node/sdk.test.mjs."""

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "node"

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]


def test_the_node_sdk_passes_its_tests(node: Path, fleet_environment: dict[str, str]) -> None:
    run = subprocess.run(
        [node, "--test", "--test-reporter=tap", "sdk.test.mjs"],
        cwd=HERE,
        env={**os.environ, **fleet_environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 8" in run.stdout
