"""Every module of the chassis is used by two services, and its README lists it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHASSIS = ROOT / "libs/chassis/src/chassis"
MODULES = sorted({path.stem for path in CHASSIS.iterdir() if path.stem not in {"__init__", "py", "__pycache__"}})
SERVICES = sorted(path for path in (ROOT / "services").iterdir() if path.is_dir())
# Used by other modules of the chassis, which every service uses.
USED_INSIDE = {"circuit_breaker", "http", "tls"}


def importers(module: str) -> set[str]:
    """The services whose code or tests import a module of the chassis."""
    forms = (rf"from chassis\.{module}\b", rf"import chassis\.{module}\b", rf"from chassis import .*\b{module}\b")
    imports = re.compile(rf"^\s*({'|'.join(forms)})", re.MULTILINE)
    return {s.name for s in SERVICES if any(imports.search(path.read_text()) for path in s.rglob("*.py"))}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in USED_INSIDE])
def test_a_module_is_used_by_at_least_two_services(module: str) -> None:
    assert len(importers(module)) >= 2


@pytest.mark.parametrize("module", MODULES)
def test_the_readme_lists_every_module(module: str) -> None:
    assert f"`{module}`" in (ROOT / "libs/chassis/README.md").read_text()


def test_the_chassis_names_no_service() -> None:
    names = [service.name for service in SERVICES] + [service.name.replace("-", "_") for service in SERVICES]
    for path in CHASSIS.rglob("*.py"):
        code = re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.DOTALL)
        for name in names:
            assert f'"{name}"' not in code, f"{path.name} names {name}"
