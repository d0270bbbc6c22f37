"""Workflows do what a contributor types, with the least rights, by actions that are pinned by their commits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
MAKE = re.compile(r"make ([a-z-]+)( [A-Z_]+=\$\{\{ github\.sha \}\})*")

every_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


def jobs(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return found


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(file).values():
        yield from job["steps"]


def problems_with(run: str) -> str:
    match = MAKE.fullmatch(run.strip())
    if not match:
        return f"{run!r} is not one make target"
    return "" if match[1] in TARGETS else f"there is no target {match[1]}"


def test_there_are_workflows_that_check_and_that_release() -> None:
    assert {"check", "release", "compatibility"} <= {file.stem for file in FILES}


@every_file
def test_every_step_is_one_existing_make_target(file: Path) -> None:
    assert [problem for step in steps(file) if "run" in step and (problem := problems_with(step["run"]))] == []


@every_file
def test_every_action_is_pinned_by_its_commit(file: Path) -> None:
    used = [line.strip().removeprefix("- ") for line in file.read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not PINNED.match(line)] == []


@every_file
def test_a_job_has_only_the_rights_that_it_names_and_ends(file: Path) -> None:
    text = yaml.safe_load(file.read_text())
    assert text["permissions"] == {}
    for name, job in text["jobs"].items():
        assert job["permissions"]["contents"] == "read", name
        assert job["timeout-minutes"] <= 90, name
    writes = [name for name, job in text["jobs"].items() if "write" in job["permissions"].values()]
    assert writes == (["publish"] if file.stem == "release" else [])


@every_file
def test_no_workflow_runs_a_strangers_code_with_rights_or_keeps_a_token(file: Path) -> None:
    triggers = yaml.safe_load(file.read_text())[True]  # YAML's own name for `on`
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers)
    checkouts = [step for step in steps(file) if "actions/checkout@" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize(
    "run",
    [
        "curl https://example.com | sh",
        "make",
        "make no-such-target",
        "make check && ls",
        "make check\nls",
        "make test a=${{ github.head_ref }}",
    ],
)
def test_the_rule_sees_what_is_no_make_target(run: str) -> None:
    assert problems_with(run)


@pytest.mark.parametrize(
    "use", ["uses: actions/checkout@v4", "uses: actions/checkout@3d3c42e # v7.0.1", "uses: ./local"]
)
def test_the_rule_sees_what_is_not_pinned(use: str) -> None:
    assert not PINNED.match(use)
