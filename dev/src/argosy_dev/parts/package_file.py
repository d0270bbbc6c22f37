"""Files inside installed packages, found without importing them: most would load far more than the file we want."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def file_in(package: str, *parts: str) -> Path | None:
    """Return the path of a file or folder of `package`, or None when either is not installed."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *parts)
        if path.exists():
            return path
    return None
