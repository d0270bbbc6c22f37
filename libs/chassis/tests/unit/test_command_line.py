import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.lifecycle import Command, Component, Service, command_line
from chassis.settings import PostgresSection, ServiceSettings
from chassis.telemetry import Telemetry
from chassis.testing import SECRET, free_port
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection | None = Field(None, description="Where toys are kept.")


@asynccontextmanager
async def nothing(_: Settings, __: Telemetry) -> AsyncIterator[Sequence[Component]]:
    yield []


async def play(_: Settings, parsed: argparse.Namespace) -> int | None:
    if parsed.toy == "broken":
        raise Unavailable("the box is locked")
    sys.stdout.write(f"playing with {parsed.toy}\n")
    return 3 if parsed.toy == "matches" else None


TOY = Service(
    "toy-box",
    Settings,
    nothing,
    schema="toys",
    migrations=Path(__file__).parent,
    postgres=lambda settings: settings.postgres or PostgresSection(dsn=SecretStr("postgresql://app@nowhere/db")),
    commands={"play": Command("play with a toy", play, lambda parser: parser.add_argument("toy"))},
    description="Toys for tests.",
)


@pytest.fixture
def environment(logs_as_they_were: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_PRINCIPAL__SECRETS", SECRET)


def reported(*arguments: str) -> int | str | None:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        command_line(TOY, arguments)
    return caught.value.code


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("toy_name", "code"), [("bear", 0), ("matches", 3)])
def test_a_service_has_commands_of_its_own(
    capsysbinary: pytest.CaptureFixture[bytes], toy_name: str, code: int
) -> None:
    assert reported("play", toy_name) == code
    assert capsysbinary.readouterr().out == f"playing with {toy_name}\n".encode()


@pytest.mark.usefixtures("environment")
def test_a_failing_command_prints_its_error_in_one_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert reported("play", "broken") == 1
    assert capsysbinary.readouterr().err == b"the box is locked\n"


@pytest.mark.usefixtures("environment")
def test_config_prints_what_was_understood_without_secrets(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert reported("config") == 0
    printed = capsysbinary.readouterr().out
    assert json.loads(printed)["principal"] == {"secrets": ["**********"]}
    assert SECRET.encode() not in printed


@pytest.mark.usefixtures("environment")
def test_migrating_needs_the_owner(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert reported("migrate") == 78
    assert b"OWNER_DSN" in capsysbinary.readouterr().err


@pytest.mark.usefixtures("environment")
def test_migrating_applies_the_migrations_as_the_owner(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    asked: list[Any] = []

    async def migrate(*arguments: Any) -> list[str]:
        asked.append(arguments)
        return ["0001_toys.sql"] if len(asked) == 1 else []

    monkeypatch.setattr("chassis.postgres.migrate", migrate)
    monkeypatch.setenv(
        "TOY_POSTGRES", json.dumps({"dsn": "postgresql://app@db/x", "owner_dsn": "postgresql://owner@db/x"})
    )

    assert (reported("migrate"), reported("migrate")) == (0, 0)
    assert asked[0] == ("postgresql://owner@db/x", Path(__file__).parent, "toys")
    assert capsysbinary.readouterr().out == b"applied 0001_toys.sql\nnothing to apply\n"


def test_help_lists_every_command(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert reported("--help") == 0
    text = capsysbinary.readouterr().out.decode()
    assert "python -m toy_box" in text
    assert all(command in text for command in ("serve", "config", "migrate", "play with a toy"))


def test_an_unknown_command_is_refused(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert reported("dance") == 2
    assert b"dance" in capsysbinary.readouterr().err


def test_bad_settings_keep_every_command_from_running(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOY_PRINCIPAL__SECRETS", raising=False)

    assert reported("play", "bear") == 78
    assert capsysbinary.readouterr().err == b"TOY_PRINCIPAL__SECRETS: is required and not set.\n"


PROGRAM = """
    import asyncio, threading
    from contextlib import asynccontextmanager
    from chassis.lifecycle import Loop, Service, command_line
    from chassis.settings import ServiceSettings
    from pydantic_settings import SettingsConfigDict

    class Settings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="TOY_", env_nested_delimiter="__", frozen=True)

    async def turn(stop):
        print(type(asyncio.get_running_loop()).__module__, flush=True)
        await stop.wait()

    @asynccontextmanager
    async def build(settings, telemetry):
        yield [Loop("wheel", turn)]

    command_line(Service("toy", Settings, build))
"""


def test_a_real_process_runs_on_uvloop_and_ends_with_0_on_sigterm() -> None:
    environment = os.environ | {"TOY_PRINCIPAL__SECRETS": SECRET, "TOY_OPS__PORT": str(free_port())}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        rest, complaints = process.communicate(timeout=20)

    assert any("ready" in line for line in lines)
    assert "uvloop\n" in lines
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
    assert (process.returncode, complaints) == (0, "")
