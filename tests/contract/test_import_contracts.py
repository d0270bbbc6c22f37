"""The import contracts and bans of pyproject.toml fail for a cycle of features, a wrong layer and a banned import."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]


def lint_imports(folder: Path, contract: dict[str, Any], **changes: object) -> subprocess.CompletedProcess[str]:
    """Check the package `shop` in a folder with a contract of the repository."""
    lines = ["[tool.importlinter]", 'root_packages = ["shop"]', "[[tool.importlinter.contracts]]"]
    lines += [f"{name} = {_toml(value)}" for name, value in (contract | changes).items()]
    (folder / "contracts.toml").write_text("\n".join(lines))
    command = [str(BIN / "lint-imports"), "--no-cache", "--config", "contracts.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."})


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value).lower() if isinstance(value, bool | int) else f'"{" ".join(str(value).split())}"'


def write_shop(folder: Path, **modules: str) -> None:
    """Write a service with these modules; a double underscore separates a folder and a file."""
    for name, text in {"__init__": "", **modules}.items():
        path = folder / "shop" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)


def contract_of(kind: str) -> dict[str, Any]:
    return next(contract for contract in CONTRACTS if contract["type"] == kind)


@pytest.mark.parametrize(("back", "status"), [("from shop.chat.model import Chat\n", 1), ("", 0)])
def test_features_form_no_cycle(tmp_path: Path, back: str, status: int) -> None:
    write_shop(tmp_path, chat__model="from shop.usage.model import Usage\n", usage__model=back)

    result = lint_imports(tmp_path, contract_of("acyclic_siblings"), ancestors=["shop"])

    assert result.returncode == status, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("modules", "status"),
    [
        (
            {"main": "import shop.chat.model\n", "chat__model": "import shop.metrics\n", "metrics": "", "settings": ""},
            0,
        ),
        ({"main": "", "chat__model": "import shop.main\n", "metrics": "", "settings": ""}, 1),
        ({"main": "", "chat__model": "", "metrics": "import shop.chat.model\n", "settings": ""}, 1),
        ({"main": "", "chat__model": "", "metrics": "", "settings": "", "everything_else": ""}, 1),
    ],
    ids=["wired by main", "a feature imports main", "metrics import a feature", "an unknown folder"],
)
def test_layers_of_a_service(tmp_path: Path, modules: dict[str, str], status: int) -> None:
    write_shop(tmp_path, **modules)
    (tmp_path / "shop" / "__main__.py").touch()

    result = lint_imports(tmp_path, contract_of("layers"), containers=["shop"])

    assert result.returncode == status, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("services/metering/src/metering/ledger/postgres.py", "import asyncpg\n\nasyncpg.connect('x')\n", 1),
        ("libs/chassis/src/chassis/postgres/database.py", "import asyncpg\n\nasyncpg.connect('x')\n", 0),
        ("services/gateway/src/gateway/web/x.py", "import json\n\njson.loads('1')\n", 1),
        ("services/gateway/src/gateway/web/x.py", "from starlette.middleware.base import BaseHTTPMiddleware\n", 1),
        ("services/gateway/src/gateway/web/x.py", "from .y import z\n", 1),
    ],
)
def test_banned_imports(path: str, code: str, status: int) -> None:
    command = [str(BIN / "ruff"), "check", "--select", "TID", "--stdin-filename", path, "-"]
    result = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False)

    assert result.returncode == status, result.stdout
