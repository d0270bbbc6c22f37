"""Finds files of installed packages without importing them: most packages would load far more than the file."""

from importlib.util import find_spec
from pathlib import Path


def package_file(package: str, *parts: str) -> Path | None:
    """Return the path of a file or folder of `package`, or None when either is not installed."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *parts)
        if path.exists():
            return path
    return None
