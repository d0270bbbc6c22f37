"""The command line of a service."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import orjson
import uvloop

from chassis.errors import ArgosyError
from chassis.lifecycle.runner import CLOSE_TIMEOUT_SECONDS, Clients, exit_after, serve
from chassis.lifecycle.supervisor import supervise
from chassis.settings import EX_CONFIG, PostgresSection, ServiceSettings, load, redacted
from chassis.telemetry import Telemetry, configure_logs

S = TypeVar("S", bound=ServiceSettings)


def _no_arguments(_: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Command(Generic[S]):
    """A further command, `python -m <service> <name>`. `run` returns the exit code; None is 0."""

    help: str
    run: Callable[[S, argparse.Namespace], Awaitable[int | None]]
    arguments: Callable[[argparse.ArgumentParser], object] = _no_arguments


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """Description of a service for its command line.

    `build` is `with_builder(…)`, or an `@asynccontextmanager` that opens clients, yields components in the order of
    their start, and closes the clients when the components have stopped. `migrations`, `schema` and `postgres` enable
    the command `migrate`.
    """

    name: str
    settings: type[S]
    build: Callable[[S, Telemetry], Clients]
    schema: str | None = None
    migrations: Path | None = None
    postgres: Callable[[S], PostgresSection] | None = None
    commands: Mapping[str, Command[S]] = field(default_factory=dict)
    description: str = ""
    supervised: Callable[[S], bool] = lambda _: False
    """Whether it is served by a child process, which is replaced when a signal has killed it."""


def command_line(service: Service[S], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command in `arguments` and exit: 0 done, 1 failed, 2 unknown command, 78 bad settings."""
    parsed = _parser(service).parse_args(arguments)
    settings = load(service.settings)
    if parsed.command == "config":
        sys.stdout.buffer.write(
            orjson.dumps(redacted(settings), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        sys.stdout.buffer.flush()
        sys.exit(0)
    if parsed.command == "serve":
        code = _serve(service, settings)
        # Everything has stopped. A thread that hangs must not keep the interpreter from ending.
        exit_after(CLOSE_TIMEOUT_SECONDS)
        sys.exit(code)
    command = _migrate(service) if parsed.command == "migrate" else service.commands[parsed.command].run
    # stdout is for the command's output, so logs go to stderr.
    configure_logs(settings.telemetry.log_level, service.name, stream="stderr")
    sys.exit(_run(_run_command(command, settings, parsed)))


def _serve(service: Service[S], settings: S) -> int:
    if not service.supervised(settings):
        return _run(serve(service.name, settings, service.build))
    configure_logs(settings.telemetry.log_level, service.name)
    return supervise(lambda on_ready: _run(serve(service.name, settings, service.build, on_ready)))


async def _run_command(
    run: Callable[[S, argparse.Namespace], Awaitable[int | None]], settings: S, parsed: argparse.Namespace
) -> int:
    try:
        return await run(settings, parsed) or 0
    except ArgosyError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _migrate(service: Service[S]) -> Callable[[S, argparse.Namespace], Awaitable[int | None]]:
    async def run(settings: S, _: argparse.Namespace) -> int:
        # A service without a database does not install asyncpg.
        from chassis.postgres import migrate  # noqa: PLC0415

        if service.postgres is None or service.migrations is None or service.schema is None:
            raise AssertionError("the command line offers migrate without migrations")
        section = service.postgres(settings)
        if section.owner_dsn is None:
            sys.stderr.write("The owner's connection URL (…POSTGRES__OWNER_DSN) is required to migrate, and not set.\n")
            return EX_CONFIG
        applied = await migrate(section.owner_dsn.get_secret_value(), service.migrations, service.schema)
        sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to apply\n")
        return 0

    return run


def _parser(service: Service[S]) -> argparse.ArgumentParser:
    module = service.name.replace("-", "_")
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=service.description or None)
    parser.set_defaults(command="serve")
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    builtin = {
        "serve": "run until SIGTERM (the default)",
        "config": "check the settings and print them without secrets",
    }
    if service.migrations is not None and service.schema is not None and service.postgres is not None:
        builtin["migrate"] = "apply what is new in the migrations, as the schema's owner"
    for name, text in builtin.items():
        commands.add_parser(name, help=text, description=text).set_defaults(command=name)
    for name, command in service.commands.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        command.arguments(subparser)
        subparser.set_defaults(command=name)
    return parser


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
