"""A test that fails and then passes by itself is reported and not red; nothing else is forgiven."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_chance import FLAKY_FILE, MAX_FAILURES, refusal

pytestmark = pytest.mark.timeout(600)  # each runs several Python processes

ROOT = Path(__file__).resolve().parents[2]
FAILS_ONCE = """
from pathlib import Path

def test_{name}():
    mark = Path(__file__).with_name("{name}.mark")
    seen = mark.exists()
    mark.touch()
    assert seen, "too slow"
"""
TEARDOWN_FAILS_ONCE = """
from pathlib import Path
import pytest

@pytest.fixture
def thing():
    yield
    mark = Path(__file__).with_name("{name}.mark")
    seen = mark.exists()
    mark.touch()
    assert seen, "left open"

def test_{name}(thing): pass
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder as `scripts/test` does."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib\n")
    command = [sys.executable, "-m", "tests.second_chance", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


def write(folder: Path, **tests: str) -> None:
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text.format(name=name))


def test_a_test_that_passes_by_itself_is_reported_and_listed(tmp_path: Path) -> None:
    write(tmp_path, slow=FAILS_ONCE, leaky=TEARDOWN_FAILS_ONCE, good="def test_good(): pass\n")

    ended = run(tmp_path, "-n", "2")

    assert ended.returncode == 0, ended.stdout
    lines = {
        "FLAKY: test_slow.py::test_slow (first failure: AssertionError: too slow)",
        "FLAKY: test_leaky.py::test_leaky (first failure: AssertionError: left open)",
    }
    assert lines <= set(ended.stdout.splitlines())
    listed = (tmp_path / FLAKY_FILE).read_text().splitlines()
    assert {line[line.index("FLAKY") :] for line in listed} == lines


def test_a_test_that_fails_twice_is_red(tmp_path: Path) -> None:
    write(tmp_path, slow=FAILS_ONCE, bad="def test_bad(): assert 1 == 2\n")

    ended = run(tmp_path)

    assert ended.returncode == 1
    assert "FAILED twice: test_bad.py::test_bad" in ended.stdout
    assert not (tmp_path / FLAKY_FILE).exists()


def test_when_all_pass_no_test_runs_twice(tmp_path: Path) -> None:
    write(tmp_path, good="def test_good(): pass\n")

    ended = run(tmp_path)

    assert ended.returncode == 0
    assert "1 passed" in ended.stdout
    assert "second chance" not in ended.stdout


FILE = "libs/chassis/tests/integration/test_redis.py"


@pytest.mark.parametrize(
    ("status", "failures", "part"),
    [
        (1, {f"{FILE}::test_{number}": "" for number in range(MAX_FAILURES + 1)}, "6 tests failed"),
        (1, {f"{FILE}::test_a": "worker 'gw1' crashed while running it"}, "a process died"),
        (1, {"services/metering/tests/integration/test_concurrency.py::test_a": ""}, "guards money"),
        (1, {"services/orchestrator/tests/unit/usage/test_record.py::test_a": ""}, "guards money"),
        (1, {"libs/chassis/tests/integration/test_leases.py::test_a": ""}, "guards money"),
        (1, {FILE: "ImportError"}, "could not be collected"),
        (1, {}, "pytest ended with status 1"),
        (2, {FILE: "ImportError: no module"}, "pytest ended with status 2"),
    ],
)
def test_more_than_an_accident_gets_no_second_chance(status: int, failures: dict[str, str], part: str) -> None:
    assert part in (refusal(status, failures) or "")


def test_an_accident_gets_a_second_chance() -> None:
    assert refusal(1, {f"{FILE}::test_{number}": "" for number in range(MAX_FAILURES)}) is None
