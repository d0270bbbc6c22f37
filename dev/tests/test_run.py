"""A command of a service, with what the fleet would give it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from argosy_dev import fleet, secrets
from argosy_dev.__main__ import main
from argosy_dev.run import run
from argosy_dev.services import SERVICES
from argosy_dev.state import Home
from argosy_dev.supervisor import Wanted


@pytest.fixture
def started(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose fleet ran once, with a language model of the user's."""
    monkeypatch.setenv("ARGOSY_HOME", str(home.root))
    Wanted(
        1,
        ("orchestrator",),
        {fleet.UPSTREAMS: json.dumps({"mine": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}})},
    ).write(home)
    for service in SERVICES:
        secrets.keep(home, {service.dsn: "postgresql://app@127.0.0.1:1/argosy"})
        secrets.keep(home, {service.owner_dsn: "postgresql://owner:s3cret@127.0.0.1:1/argosy"})
    return home


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_a_command_of_every_service_finds_its_settings(
    started: Home, capfd: pytest.CaptureFixture[str], service: str
) -> None:
    assert run(started, [service, "config"]) == 0

    shown = json.loads(capfd.readouterr().out)
    if "postgres" in shown:
        assert shown["postgres"]["owner_dsn"]
    if service == "inference-worker":
        assert "mine" in shown["upstreams"]


@pytest.mark.usefixtures("started")
def test_the_words_behind_a_service_are_its_own_and_so_is_the_exit_status() -> None:
    def argosy(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "argosy_dev", "run", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    helped, unknown, refused = (
        argosy("orchestrator", "route", "--help"),
        argosy("orchestrator", "no-such-command"),
        argosy("orchestrator", "route", "set", "gpt", "no-slash"),
    )

    assert "python -m orchestrator route" in helped.stdout
    assert (helped.returncode, unknown.returncode, refused.returncode) == (0, 2, 1)
    assert "'no-slash' is no candidate" in refused.stderr


def test_a_command_that_a_signal_ended_exits_as_in_a_shell(started: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -15))

    assert run(started, ["gateway"]) == 143


def test_a_fleet_that_never_ran_is_started_first(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(home.root / "new"))
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", "orchestrator", "route", "list"])

    assert main() == 1
    assert (
        capsys.readouterr().err
        == f"argosy: The fleet of {home.root}/new has never run orchestrator: run `make up` first.\n"
    )
    assert not (home.root / "new").exists()


def test_a_service_whose_schema_was_never_made_is_started_first(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(home.root))
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", "metering", "config"])
    Wanted(1, ("redis",)).write(home)

    assert main() == 1
    assert "has never run metering: run `make up` first" in capsys.readouterr().err


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("words", [[], ["billing", "list"]])
def test_an_unknown_service_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["argosy_dev", "run", *words])

    assert main() == 1
    assert "one of gateway, orchestrator, inference-worker, metering, retrieval" in capsys.readouterr().err
