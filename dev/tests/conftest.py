"""A fleet folder for every test, and process specifications of small Python processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from argosy_dev.fleet.paths import REPO_ROOT, FleetPaths
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts.build import OTLP_ENDPOINT, REPLACEABLE, REPLICAS, UPSTREAMS


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetPaths:
    for variable in (*REPLACEABLE, UPSTREAMS, OTLP_ENDPOINT, REPLICAS):
        monkeypatch.delenv(variable, raising=False)  # set by the shell or by an earlier integration test
    paths = FleetPaths(root=tmp_path / "state", assets=REPO_ROOT / ".argosy")
    paths.create()
    return paths


MakeSpec = Callable[..., ProcessSpec]


@pytest.fixture
def make_spec() -> MakeSpec:
    """Specify a part that runs a line of Python and is ready at once."""

    async def always() -> bool:
        return True

    def make(
        name: str, line: str = "import time; time.sleep(60)", *, step: bool = False, **more: object
    ) -> ProcessSpec:
        command = [sys.executable, "-I", "-S", "-c", line]
        values: dict[str, object] = {"probe": None if step else always, "grace_seconds": 2.0} | more
        return ProcessSpec(name=name, command=lambda: command, **values)  # type: ignore[arg-type]

    return make
