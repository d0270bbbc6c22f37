"""Programs that the bench runs beside the project, each with an environment of its own under `.argosy`.

What they are is pinned with hashes in `tests/load/environments/*.lock`; `tests/load/environments/lock` resolves them.
"""

import shutil
import subprocess
from pathlib import Path

from tests.fleet.environment import ROOT
from tests.load.world import PYTHON

LOCKS = Path(__file__).parent / "environments"
PLACE = ROOT / ".argosy" / "bench-env"


def program(environment: str, name: str) -> Path:
    """Return a program of an environment, which is made at its first use and again when its lock changes."""
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
    """Say which version of a package is pinned."""
    for line in (LOCKS / f"{environment}.lock").read_text().splitlines():
        name, equals, rest = line.partition("==")
        if equals and name == package:
            return rest.split()[0]
    raise KeyError(package)


def _uv(*words: str) -> None:
    uv = ROOT / ".venv" / "bin" / "uv"
    done = subprocess.run([uv, *words, "--quiet"], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"bench: uv {words[0]} failed, and it needs a package index once:\n{done.stderr}")
