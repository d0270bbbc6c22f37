"""The bills of materials are valid CycloneDX, list what images install, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.helm_charts import SERVICES
from scripts.sbom import OURS, locked, main, needed_by, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    files = write(tmp_path_factory.mktemp("bills"))
    return {file.name.partition(".")[0]: orjson.loads(file.read_bytes()) for file in files}


@pytest.mark.parametrize("service", SERVICES)
def test_a_bill_is_valid_and_has_hashes_of_the_lock(service: str, bills: dict[str, dict[str, Any]]) -> None:
    bill = bills[service]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(orjson.dumps(bill).decode()) is None
    assert bill["metadata"]["component"]["name"] == f"{OURS}{service}"
    for component in bill["components"]:
        if component["name"].startswith(OURS):
            continue
        version, hashes = locked()[component["name"]]
        assert component["version"] == version
        assert component["purl"] == f"pkg:pypi/{component['name']}@{version}"
        assert {one["content"] for one in component["hashes"]} == set(hashes) != set()
        assert component.get("licenses") or component["name"] == "tiktoken", component["name"]


def test_only_the_worker_has_litellm_and_no_image_has_what_tests_need(bills: dict[str, dict[str, Any]]) -> None:
    names = {service: {one["name"] for one in bill["components"]} for service, bill in bills.items()}
    assert [service for service, found in names.items() if "litellm" in found] == ["inference-worker"]
    assert not {"pytest", "hypothesis", "mypy", "argosy-dev"} & set().union(*names.values())
    assert all({"asyncpg", "argosy-chassis"} <= names[service] for service in SERVICES if service != "inference-worker")


@pytest.mark.parametrize("service", SERVICES)
def test_a_bill_lists_what_the_image_installs(service: str) -> None:
    """As the Dockerfile chooses it. Skipped where uv has not seen the packages' metadata and cannot download it."""
    command = [
        ".venv/bin/uv",
        "pip",
        "compile",
        "--quiet",
        "--offline",
        "--no-header",
        "--no-annotate",
        "--python-version",
    ]
    command += ["3.11", "-c", "requirements.lock", f"services/{service}/pyproject.toml"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    installed = {line.partition("==")[0] for line in result.stdout.splitlines() if "==" in line}
    assert {package for package in needed_by(f"{OURS}{service}") if not package.startswith(OURS)} == installed


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path), "gatewy"]) == 2
    assert list(tmp_path.iterdir()) == []
