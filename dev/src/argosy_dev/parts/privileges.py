"""Running a program that refuses root, when we are root."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from argosy_dev.refusals import Refusal

_NOBODY = 65_534


def unprivileged(folder: Path) -> list[str]:
    """Return the words to put before a command so that it does not see root, with `folder` readable and writable to it.

    A user namespace maps root to an ordinary number and leaves every owner on disk as it is. Where the kernel refuses
    one, `folder` is handed to the user `nobody`, who must then be able to reach it. A folder that belongs to somebody
    else, because an ordinary user has started the fleet before, stays theirs.
    """
    if os.geteuid() != 0:
        return []
    owner = folder.stat().st_uid
    if owner == 0 and _namespaces_work():
        return ["unshare", "--user", "--map-user=1000"]
    if not shutil.which("setpriv"):
        raise Refusal("Postgres refuses root, and neither unshare nor setpriv works here: use an ordinary user.")
    if owner == 0:
        owner = _NOBODY
        for path in (folder, *folder.rglob("*")):
            os.lchown(path, owner, owner)
    return ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"]


@cache
def _namespaces_work() -> bool:
    command = ["unshare", "--user", "--map-user=1000", "true"]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=5).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
