"""The fleet on one machine: `python -m argosy_dev <verb>`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from argosy_dev import jars, kafka, secrets, smollm, supervisor
from argosy_dev.down import down
from argosy_dev.fetch import convert, fetch
from argosy_dev.fleet import REPLICAS, compose
from argosy_dev.logs import logs
from argosy_dev.ports import LOOPBACK
from argosy_dev.progress import Progress
from argosy_dev.refusals import Refusal
from argosy_dev.run import run
from argosy_dev.state import CLONE, Home
from argosy_dev.status import status
from argosy_dev.supervisor import Wanted
from argosy_dev.up import up


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that can be asked for; `run` answers the exit status."""

    help: str
    run: Callable[[Home, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None
    epilog: str | None = None
    """What `--help` says at the end."""


def main() -> int:
    """Run one verb; a refusal is a sentence on standard error and a status, never a traceback."""
    words = sys.argv[1:]
    if words[:1] in (["kafka-console-consumer"], ["run"]):  # the arguments are another program's, --help and all
        words, rest = words[:1], words[1:]
    else:
        rest = []
    arguments = _parser().parse_args(words)
    arguments.rest = rest
    home = Home.of_environment()
    try:
        return VERBS[arguments.verb].run(home, arguments)
    except Refusal as refusal:
        print(f"argosy: {refusal}", file=sys.stderr)
        return refusal.status
    except OSError as error:  # no right to write, no room left
        print(f"argosy: {error.filename or home.root}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m argosy_dev", description="The fleet on one machine.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.help, description=verb.help, epilog=verb.epilog))
    return parser


def _up_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", metavar="a,b", help="just these parts and what they need")


def _up(home: Home, arguments: argparse.Namespace) -> int:
    env = up(home, [name for name in arguments.only.split(",") if name], Progress.on_stdout())
    if address := env.get("ARGOSY_BASE_URL"):
        print(f"The fleet serves at {address}; addresses and keys are in {home.env}.")
    return 0


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", help="ask something else about the guide")


def _demo(home: Home, arguments: argparse.Namespace) -> int:
    from argosy_dev import demo  # noqa: PLC0415 - brings the SDK, which takes a second

    demo.demo(
        up(home, progress=Progress.on_stdout()),
        arguments.question or demo.QUESTION,
        Console(highlight=False, soft_wrap=True),
    )
    return 0


def _down(home: Home, _: argparse.Namespace) -> int:
    print("stopped" if down(home, Progress.on_stdout()) else "nothing was running")
    return 0


def _status(home: Home, _: argparse.Namespace) -> int:
    return 0 if status(home, Console()) else 3


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it prints more")
    parser.add_argument("-n", "--lines", type=int, default=100, help="how many lines back (100)")


def _logs(home: Home, arguments: argparse.Namespace) -> int:
    logs(home, arguments.part, follow=arguments.follow, count=arguments.lines)
    return 0


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", action="store_true", help="the models alone, without Kafka's jars")


def _fetch(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.models:
        convert(home, print)
    else:
        fetch(home, print)
    return 0


def _compose_env(home: Home, _: argparse.Namespace) -> int:
    home.create()
    print(f"wrote {secrets.write_compose_env(home)}")
    return 0


def _console_consumer(home: Home, arguments: argparse.Namespace) -> int:
    addresses = compose(home, Wanted.read(home).yours).addresses
    return kafka.console_consumer(home, addresses["ARGOSY_KAFKA_BOOTSTRAP"], arguments.rest)


def _run(home: Home, arguments: argparse.Namespace) -> int:
    return run(home, arguments.rest)


def _resolve_jars(home: Home, _: argparse.Namespace) -> int:
    jars.resolve(home.jars)
    return 0


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, required=True)


def _serve_model(_: Home, arguments: argparse.Namespace) -> int:
    smollm.serve(arguments.host, arguments.port)
    return 0


def _prepare_schemas(home: Home, _: argparse.Namespace) -> int:
    from argosy_dev.preparation import prepare_schemas  # noqa: PLC0415 - brings drivers that nothing else here needs

    home.create()
    prepare_schemas(home, _given("ARGOSY_POSTGRES_DSN"))
    return 0


def _given(variable: str) -> str:
    """Return what the environment must say."""
    if not (value := os.environ.get(variable)):
        raise Refusal(f"{variable} is not set; it says where to prepare.")
    return value


def _topics_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=CLONE / "proto" / "topics", help="where the topics' files are")


def _prepare_topics(_: Home, arguments: argparse.Namespace) -> int:
    from argosy_dev.preparation import prepare_topics  # noqa: PLC0415 - as above

    prepare_topics(_given("ARGOSY_KAFKA_BOOTSTRAP"), arguments.folder)
    return 0


def _supervise(home: Home, _: argparse.Namespace) -> int:
    supervisor.supervise(home, compose(home, Wanted.read(home).yours).parts)
    return 0


VERBS = {
    "up": Verb(
        "start the fleet, or what of it does not run",
        _up,
        _up_arguments,
        epilog=f'{REPLICAS}="orchestrator=2,metering=2" in the environment starts several processes of a service.',
    ),
    "demo": Verb("start the fleet and ask a question about a document", _demo, _demo_arguments),
    "down": Verb("stop the fleet and leave no process behind", _down),
    "status": Verb("show each part: state, port, process, memory, uptime, restarts", _status),
    "logs": Verb("show what a part printed", _logs, _logs_arguments),
    "run": Verb("run a command of a service with the fleet's settings: run SERVICE COMMAND …", _run),
    "fetch": Verb("download and convert what the parts need; part of `make setup`", _fetch, _fetch_arguments),
    "compose-env": Verb("write the secrets that compose.yaml asks for", _compose_env),
    "kafka-console-consumer": Verb("run Kafka's own console consumer on the fleet's broker", _console_consumer),
    "resolve-jars": Verb("write the list of Kafka's jars anew (for maintainers)", _resolve_jars),
    "prepare-schemas": Verb("make the services' roles and schemas in ARGOSY_POSTGRES_DSN", _prepare_schemas),
    "prepare-topics": Verb("make the topics in ARGOSY_KAFKA_BOOTSTRAP", _prepare_topics, _topics_arguments),
    "serve-model": Verb("be the part `model`", _serve_model, _serve_arguments),
    "supervise": Verb("be what `up` starts in the background", _supervise),
}


if __name__ == "__main__":
    sys.exit(main())
