"""Programs that the bench runs beside the project, each with its own environment under `.argosy`.

What they are is pinned with hashes in `tests/load/environments/*.lock`; `tests/load/environments/lock` resolves them.
"""

import shutil
import subprocess
from pathlib import Path

from tests.fleet.environment import ROOT
from tests.load.bench_fleet import PYTHON

LOCKS = Path(__file__).parent / "environments"
PLACE = ROOT / ".argosy" / "bench-env"


def program(environment: str, name: str) -> Path:
    """Return a program of an environment, which is created at its first use and after a change of its lock."""
    lock, folder = LOCKS / f"{environment}.lock", PLACE / environment
    stamp = folder / "lock"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", PYTHON, str(folder))
        into = str(folder / "bin" / "python")
        _uv("pip", "install", "--python", into, "--no-deps", "--require-hashes", "--requirement", str(lock))
        shutil.copyfile(lock, stamp)
    return folder / "bin" / name


def version(environment: str, package: str) -> str:
    """Return the pinned version of a package."""
    for line in (LOCKS / f"{environment}.lock").read_text().splitlines():
        name, equals, rest = line.partition("==")
        if equals and name == package:
            return rest.split()[0]
    raise KeyError(package)


def _uv(*arguments: str) -> None:
    uv = ROOT / ".venv" / "bin" / "uv"
    done = subprocess.run([uv, *arguments, "--quiet"], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"bench: uv {arguments[0]} failed, and it needs a package index once:\n{done.stderr}")
