"""Files that share the simulator or its prices run on one worker, whatever pytest-xdist makes of groups."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = "from tests.conftest import pytest_xdist_make_scheduler\n"
GROUPED = """
import os, pathlib
import pytest

pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("number", range(5))
def test_note(number):
    with pathlib.Path(__file__).with_name("workers").open("a") as workers:
        workers.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


@pytest.mark.timeout(600)
def test_a_group_runs_on_one_worker(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(GROUPED)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}

    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 10
    assert len(set(workers)) == 1
