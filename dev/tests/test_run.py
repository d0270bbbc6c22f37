"""`run`: a command of a service, with the settings of the fleet."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from argosy_dev.__main__ import main
from argosy_dev.commands.run import run
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.supervisor import DesiredState
from argosy_dev.parts import build
from argosy_dev.parts.replicas import SERVICES


@pytest.fixture
def started(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> FleetPaths:
    """Paths of a fleet that ran once, with a language model of the user."""
    monkeypatch.setenv("ARGOSY_HOME", str(paths.root))
    DesiredState(
        1,
        ("orchestrator",),
        {build.UPSTREAMS: json.dumps({"mine": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}})},
    ).write(paths)
    for service in SERVICES:
        secrets.save(paths, {service.dsn: "postgresql://app@127.0.0.1:1/argosy"})
        secrets.save(paths, {service.owner_dsn: "postgresql://owner:s3cret@127.0.0.1:1/argosy"})
    return paths


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_a_command_of_every_service_gets_its_settings(
    started: FleetPaths, capfd: pytest.CaptureFixture[str], service: str
) -> None:
    assert run(started, [service, "config"]) == 0

    shown = json.loads(capfd.readouterr().out)
    if "postgres" in shown:
        assert shown["postgres"]["owner_dsn"]
    if service == "inference-worker":
        assert "mine" in shown["upstreams"]


@pytest.mark.usefixtures("started")
def test_arguments_and_exit_status_are_those_of_the_service() -> None:
    def argosy(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "argosy_dev", "run", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    help_, unknown, rejected = (
        argosy("orchestrator", "route", "--help"),
        argosy("orchestrator", "no-such-command"),
        argosy("orchestrator", "route", "set", "gpt", "no-slash"),
    )

    assert "python -m orchestrator route" in help_.stdout
    assert (help_.returncode, unknown.returncode, rejected.returncode) == (0, 2, 1)
    assert "'no-slash' is no candidate" in rejected.stderr


def test_a_command_stopped_by_a_signal_exits_as_in_a_shell(
    started: FleetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -15))

    assert run(started, ["gateway"]) == 143


def test_a_fleet_that_never_ran_is_an_error(
    paths: FleetPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(paths.root / "new"))
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", "orchestrator", "route", "list"])

    assert main() == 1
    assert (
        capsys.readouterr().err
        == f"argosy: The fleet of {paths.root}/new has never run orchestrator: run `make up` first.\n"
    )
    assert not (paths.root / "new").exists()


def test_a_service_without_its_schema_is_an_error(
    paths: FleetPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(paths.root))
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", "metering", "config"])
    DesiredState(1, ("redis",)).write(paths)

    assert main() == 1
    assert "has never run metering: run `make up` first" in capsys.readouterr().err


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("words", [[], ["billing", "list"]])
def test_an_unknown_service_is_an_error_that_names_the_services(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", *words])

    assert main() == 1
    assert "one of gateway, orchestrator, inference-worker, metering, retrieval" in capsys.readouterr().err
