"""The command line of the fleet: `python -m argosy_dev <command>`."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from argosy_dev.commands.down import down
from argosy_dev.commands.fetch import fetch
from argosy_dev.commands.logs import logs
from argosy_dev.commands.progress import Progress
from argosy_dev.commands.run import run
from argosy_dev.commands.status import status
from argosy_dev.commands.up import up
from argosy_dev.errors import CliError
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import REPO_ROOT, FleetPaths
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.supervisor import DesiredState, supervise
from argosy_dev.parts import kafka, kafka_jars
from argosy_dev.parts.build import REPLICAS, build_fleet
from argosy_dev.parts.models import smollm
from argosy_dev.parts.models.convert import convert_models

# Commands that pass all their arguments, --help included, to another program.
_PASS_THROUGH = ("kafka-console-consumer", "run")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line; `run` returns the exit status."""

    help: str
    run: Callable[[FleetPaths, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None
    epilog: str | None = None


def main() -> int:
    """Run one command; print a CliError or an OSError as one line and return its status."""
    words = sys.argv[1:]
    words, rest = (words[:1], words[1:]) if words[:1] and words[0] in _PASS_THROUGH else (words, [])
    arguments = _parser().parse_args(words)
    arguments.rest = rest
    paths = FleetPaths.from_environment()
    try:
        return COMMANDS[arguments.command].run(paths, arguments)
    except CliError as error:
        print(f"argosy: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # such as no permission, disk full
        print(f"argosy: {error.filename or paths.root}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m argosy_dev", description="The fleet on one machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help, epilog=command.epilog)
        command.arguments(subparser)
    return parser


def _up_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", metavar="a,b", help="just these parts and what they need")


def _up(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    env = up(paths, [name for name in arguments.only.split(",") if name], Progress.on_stdout())
    if address := env.get("ARGOSY_BASE_URL"):
        print(f"The fleet serves at {address}; addresses and keys are in {paths.env}.")
    return 0


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", help="another question about the guide")


def _demo(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    from argosy_dev.commands import demo  # noqa: PLC0415 - imports the SDK, which takes a second

    env = up(paths, progress=Progress.on_stdout())
    demo.demo(env, arguments.question or demo.QUESTION, Console(highlight=False, soft_wrap=True))
    return 0


def _down(paths: FleetPaths, _: argparse.Namespace) -> int:
    print("stopped" if down(paths, Progress.on_stdout()) else "nothing was running")
    return 0


def _status(paths: FleetPaths, _: argparse.Namespace) -> int:
    return 0 if status(paths, Console()) else 3


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part")
    parser.add_argument("-f", "--follow", action="store_true", help="print new lines as they are written")
    parser.add_argument("-n", "--lines", type=int, default=100, help="number of lines (100)")


def _logs(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    logs(paths, arguments.part, follow=arguments.follow, count=arguments.lines)
    return 0


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", action="store_true", help="the models alone, without Kafka's jars")


def _fetch(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    (convert_models if arguments.models else fetch)(paths, print)
    return 0


def _compose_env(paths: FleetPaths, _: argparse.Namespace) -> int:
    paths.create()
    print(f"wrote {secrets.write_compose_env(paths)}")
    return 0


def _console_consumer(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    addresses = build_fleet(paths, DesiredState.read(paths).overrides).addresses
    return kafka.console_consumer(paths, addresses["ARGOSY_KAFKA_BOOTSTRAP"], arguments.rest)


def _run(paths: FleetPaths, arguments: argparse.Namespace) -> int:
    return run(paths, arguments.rest)


def _resolve_jars(paths: FleetPaths, _: argparse.Namespace) -> int:
    kafka_jars.resolve(paths.jars)
    return 0


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, required=True)


def _serve_model(_: FleetPaths, arguments: argparse.Namespace) -> int:
    smollm.serve(arguments.host, arguments.port)
    return 0


def _required_variable(variable: str) -> str:
    if not (value := os.environ.get(variable)):
        raise CliError(f"{variable} is not set; it is the address of the store.")
    return value


def _provision_schemas(paths: FleetPaths, _: argparse.Namespace) -> int:
    from argosy_dev.parts.provision import provision_schemas  # noqa: PLC0415 - imports drivers that only this needs

    paths.create()
    provision_schemas(paths, _required_variable("ARGOSY_POSTGRES_DSN"))
    return 0


def _topics_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=REPO_ROOT / "proto" / "topics", help="the topics' files")
    parser.add_argument("--pool", action="append", default=[], metavar="NAME", help="also the topics of another pool")


def _provision_topics(_: FleetPaths, arguments: argparse.Namespace) -> int:
    from argosy_dev.parts.provision import provision_topics  # noqa: PLC0415 - as above

    provision_topics(_required_variable("ARGOSY_KAFKA_BOOTSTRAP"), arguments.folder, arguments.pool)
    return 0


def _seed_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("services", nargs="*", help="just these services")


def _seed(_: FleetPaths, arguments: argparse.Namespace) -> int:
    from argosy_dev.seed.run import seed  # noqa: PLC0415 - as above

    seed(tuple(arguments.services), os.environ)
    return 0


def _supervise(paths: FleetPaths, _: argparse.Namespace) -> int:
    supervise(paths, build_fleet(paths, DesiredState.read(paths).overrides).specs)
    return 0


COMMANDS = {
    "up": Command(
        "start the fleet, or the parts that do not run yet",
        _up,
        _up_arguments,
        epilog=f'{REPLICAS}="orchestrator=2,metering=2" in the environment starts several processes of a service.',
    ),
    "demo": Command("start the fleet and ask a question about a document", _demo, _demo_arguments),
    "down": Command("stop the fleet and all its processes", _down),
    "status": Command("show each part: state, port, process, memory, uptime, restarts", _status),
    "logs": Command("show the output of a part", _logs, _logs_arguments),
    "run": Command("run a command of a service with the fleet's settings: run SERVICE COMMAND …", _run),
    "fetch": Command("download and convert what the parts need; part of `make setup`", _fetch, _fetch_arguments),
    "compose-env": Command("write the secrets for compose.yaml", _compose_env),
    "kafka-console-consumer": Command("run Kafka's own console consumer on the fleet's broker", _console_consumer),
    "resolve-jars": Command("rewrite the list of Kafka's jars (for maintainers)", _resolve_jars),
    "provision-schemas": Command("create the services' roles and schemas in ARGOSY_POSTGRES_DSN", _provision_schemas),
    "provision-topics": Command("create the topics in ARGOSY_KAFKA_BOOTSTRAP", _provision_topics, _topics_arguments),
    "seed": Command("insert the demo routes and prices, as the schemas' owners", _seed, _seed_arguments),
    "serve-model": Command("serve the language model (the part `model`)", _serve_model, _serve_arguments),
    "supervise": Command("run the supervisor that `up` starts in the background", _supervise),
}


if __name__ == "__main__":
    sys.exit(main())
