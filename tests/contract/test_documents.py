"""Links, commands, paths and variables in the documentation exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRST = (
    "README.md",
    "CONTRIBUTING.md",
    "dev/README.md",
    "helm/argosy/README.md",
    "libs/chassis/README.md",
    "ops/README.md",
)
PAGES = [ROOT / name for name in FIRST]
PAGES += sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md"), *ROOT.glob("ops/runbooks/*.md")])
DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
LOCKS = ("requirements.lock", "tests/e2e/node/package-lock.json", "dev/src/argosy_dev/parts/kafka.jars")


def name_of(page: Path) -> str:
    """A page as a test's id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_points_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_make_command_is_a_target(page: Path) -> None:
    assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_path_in_backticks_exists(page: Path) -> None:
    found = re.findall(r"`((?:libs|services|dev|proto|tests|scripts|docs|ops)/[\w./-]*\w/?)`", page.read_text())
    assert [path for path in found if not (ROOT / path).exists() and not (page.parent / path).exists()] == []


def test_every_file_on_the_journey_exists() -> None:
    journey = (ROOT / "docs/architecture.md").read_text().partition("### The journey of one streamed chat")[2]
    found = set(re.findall(r"`([\w/]+\.(?:py|sql))`", journey))
    assert len(found) > 50
    assert [
        path for path in sorted(found) if not [*ROOT.glob(f"libs/*/src/{path}"), *ROOT.glob(f"services/*/src/*/{path}")]
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_variable_of_the_fleet_is_in_the_code(page: Path) -> None:
    found = set(re.findall(r"\bARGOSY_[A-Z_]+\b", page.read_text()))
    code = "".join(path.read_text() for path in (ROOT / "dev/src").rglob("*.py"))
    assert [variable for variable in sorted(found) if f'"{variable}"' not in code] == []


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^  \x1b\[36m(\S+)", listed, re.MULTILINE)) == TARGETS == set(phony[1].split())


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_all_sections(page: Path) -> None:
    text = page.read_text()
    assert re.match(rf"# {int(page.name[:4])}\. .+\n\n\d{{4}}-\d\d-\d\d, (accepted|superseded by .+)\n", text)
    sections = re.findall(r"^## (.*)\n(?=\S)", text, re.MULTILINE)
    assert sections == ["Context", "Decision", "Consequences", "Alternatives", "Violated by"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_contains_no_address(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()
