"""A home of its own for every test, and parts small enough to start a dozen."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from argosy_dev.fleet import OTLP_ENDPOINT, REPLACEABLE, REPLICAS, UPSTREAMS
from argosy_dev.part import Part
from argosy_dev.state import CLONE, Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for variable in (*REPLACEABLE, UPSTREAMS, OTLP_ENDPOINT, REPLICAS):
        monkeypatch.delenv(variable, raising=False)  # your shell's, or those of an integration test before
    home = Home(root=tmp_path / "state", assets=CLONE / ".argosy")
    home.create()
    return home


MakePart = Callable[..., Part]


@pytest.fixture
def a_part() -> MakePart:
    """Make a part that runs a line of Python and is ready as soon as it runs."""

    async def always() -> bool:
        return True

    def make(name: str, line: str = "import time; time.sleep(60)", *, step: bool = False, **more: object) -> Part:
        command = [sys.executable, "-I", "-S", "-c", line]
        values: dict[str, object] = {"probe": None if step else always, "grace_seconds": 2.0} | more
        return Part(name=name, command=lambda: command, **values)  # type: ignore[arg-type]

    return make
