"""The fleet on one machine: `python -m argosy_dev <verb>`."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from argosy_dev import jars, kafka, smollm, supervisor
from argosy_dev.down import down
from argosy_dev.fetch import fetch
from argosy_dev.fleet import compose
from argosy_dev.logs import logs
from argosy_dev.progress import Progress
from argosy_dev.refusals import Refusal
from argosy_dev.state import Home
from argosy_dev.status import status
from argosy_dev.supervisor import Wanted
from argosy_dev.up import up


def main() -> int:
    """Run one verb; a refusal is a sentence on standard error and a status, never a traceback."""
    arguments, rest = _parser().parse_known_args()
    if rest and arguments.verb != "kafka-console-consumer":
        _parser().parse_args()  # says which argument is unknown
    try:
        return _run(arguments, rest)
    except Refusal as refusal:
        print(f"argosy: {refusal}", file=sys.stderr)
        return refusal.status
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m argosy_dev", description="The fleet on one machine.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    start = verbs.add_parser("up", help="start the fleet, or what of it does not run")
    start.add_argument("--only", default="", metavar="a,b", help="just these parts and what they need")
    verbs.add_parser("down", help="stop the fleet")
    verbs.add_parser("status", help="show each part: state, port, process, memory, uptime, restarts")
    log = verbs.add_parser("logs", help="show what a part printed")
    log.add_argument("part")
    log.add_argument("-f", "--follow", action="store_true", help="go on as it prints more")
    log.add_argument("-n", "--lines", type=int, default=100, help="how many lines back (100)")
    verbs.add_parser("fetch", help="download and convert what the parts need; part of `make setup`")
    verbs.add_parser(
        "kafka-console-consumer", help="run Kafka's own console consumer on the fleet's broker", add_help=False
    )
    verbs.add_parser("resolve-jars", help="write the list of Kafka's jars anew (for maintainers)")
    verbs.add_parser("supervise", help="what `up` starts in the background")
    model = verbs.add_parser("serve-model", help="what the part `model` runs")
    model.add_argument("--port", type=int, required=True)
    return parser


def _run(arguments: argparse.Namespace, rest: list[str]) -> int:
    home = Home.of_environment()
    match arguments.verb:
        case "up":
            up(home, [name for name in arguments.only.split(",") if name], Progress.on_stdout())
        case "down":
            print("stopped" if down(home, Progress.on_stdout()) else "nothing was running")
        case "status":
            return 0 if status(home, Console()) else 3
        case "logs":
            logs(home, arguments.part, follow=arguments.follow, count=arguments.lines)
        case "fetch":
            fetch(home, print)
        case "kafka-console-consumer":
            fleet = compose(home, Wanted.read(home).yours)
            return kafka.console_consumer(home, fleet.addresses["ARGOSY_KAFKA_BOOTSTRAP"], rest)
        case "resolve-jars":
            jars.resolve(home.jars)
        case "serve-model":
            smollm.serve(arguments.port)
        case "supervise":
            supervisor.supervise(home, compose(home, Wanted.read(home).yours).parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
