"""Measures two versions of the project in turns: the work tree, and a commit whose sources lie in a folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.fleet.environment import ROOT

PLACE = ROOT / ".argosy" / "bench-versions"
SOURCES = ("libs", "proto/gen", "services")


def resolve(commit: str) -> str:
    """Return the full name of a commit. Exits when there is none."""
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise SystemExit(f"bench: there is no commit {commit}")
    return done.stdout.strip()


def sources(commit: str) -> Path:
    """Return a folder with the sources of a commit."""
    folder = PLACE / resolve(commit)
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit, *SOURCES], check=True, capture_output=True, cwd=ROOT)
        subprocess.run(["tar", "-x", "-C", str(unfinished)], check=True, input=archive.stdout)
        unfinished.rename(folder)
    return folder


def interpreter(root: Path) -> str:
    """Return a Python that runs the sources below `root` with the packages of the work tree.

    Not by PYTHONPATH, which isolated interpreters ignore, and parsers run in one.
    """
    if root == ROOT:
        return sys.executable
    folder = root.with_name(f"{root.name}.venv")
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        [packages] = folder.glob("lib/python*/site-packages")
        found = [*root.glob("libs/*/src"), *root.glob("services/*/src"), root / "proto" / "gen"]
        # Their `.pth` files, which name the sources of the work tree, are not read below a folder that is named here.
        lines = [*map(str, found), sysconfig.get_path("purelib")]
        (packages / "versions.pth").write_text("\n".join(lines) + "\n")
    return str(folder / "bin" / "python")


def start(module: str, root: Path, **more: str) -> "subprocess.Popen[str]":
    """Start a module of the work tree on the sources below `root`; it reads and writes lines."""
    return subprocess.Popen(
        [interpreter(root), "-m", module],
        env=os.environ | more,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
