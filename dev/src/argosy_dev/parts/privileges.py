"""Runs a program that refuses to run as root, when we are root."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import TRAVERSED_FOLDER

_NOBODY_UID = 65_534


def unprivileged(folder: Path) -> list[str]:
    """Return a command prefix that drops root, with `folder` still readable and writable.

    A user namespace maps root to an ordinary uid and does not change the owner of files. Where the kernel has no user
    namespaces, `folder` is given to the user `nobody`. A folder with another owner, because an ordinary user started
    the fleet before, keeps it.
    """
    if os.geteuid() != 0:
        return []
    owner = folder.stat().st_uid
    if owner == 0 and _has_user_namespaces():
        return ["unshare", "--user", "--map-user=1000"]
    if not shutil.which("setpriv"):
        raise CliError("Postgres refuses root, and neither unshare nor setpriv works here: use an ordinary user.")
    if owner == 0:
        owner = _NOBODY_UID
        for path in (folder, *folder.rglob("*")):
            os.lchown(path, owner, owner)
    if owner == _NOBODY_UID:
        for parent in (folder.parent, folder.parent.parent):  # `data` and the fleet's folder, which belong to root
            parent.chmod(TRAVERSED_FOLDER)
    return ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"]


@cache
def _has_user_namespaces() -> bool:
    command = ["unshare", "--user", "--map-user=1000", "true"]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=5).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
