"""The command `replay-dead-letters` of services that consume topics."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from chassis.kafka.record import DEAD_LETTERS
from chassis.kafka.replay import Letter, Replay, ReplayOptions, replays
from chassis.lifecycle import Command
from chassis.settings import KafkaSection, ServiceSettings

MAX_REASON_CHARACTERS: Final = 200
MAX_REASONS: Final = 20

S = TypeVar("S", bound=ServiceSettings)


def replay_dead_letters(section: Callable[[S], KafkaSection], *topics: str) -> Command[S]:
    """Make the command for the topics that a service consumes."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--topic",
            choices=topics,
            default=topics[0],
            help=f"the topic that they go back to ({topics[0]}); their own is the same with {DEAD_LETTERS}",
        )
        parser.add_argument("--limit", type=_count, help="replay at most this many")
        parser.add_argument("--dry-run", action="store_true", help="print what would be done with each, and do nothing")
        parser.add_argument(
            "--from-beginning",
            action="store_true",
            help="also those that earlier runs replayed or left; what was handled is not handled twice",
        )
        parser.add_argument(
            "--sign-anew",
            metavar="KEY_ID",
            help="replay only what was refused because it is signed with this retired key, and sign it with the first "
            "key of today. Whoever can write to Kafka can name a key id, so prefer to add the retired key to the "
            "signing keys for a while",
        )

    async def run(settings: S, parsed: argparse.Namespace) -> None:
        options = ReplayOptions(parsed.limit, parsed.dry_run, parsed.from_beginning, parsed.sign_anew)
        passed = 0

        def show(letters: Sequence[Letter]) -> None:
            nonlocal passed
            passed += len(letters)
            if options.dry_run:
                sys.stdout.writelines(map(_line, letters))
            else:
                sys.stderr.write(f"{passed} dead letters read\n")

        result = await Replay(section(settings), parsed.topic, options, show).run()
        _summarize("would replay" if options.dry_run else "replayed", result.replayed)
        _summarize("would leave" if options.dry_run else "left", result.left)

    return Command("publish dead letters to their topic again", run, arguments)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _line(letter: Letter) -> str:
    source, record, reason = letter
    what = "leave" if record is None else "replay"
    key = _printable(source.key.decode(errors="replace"))
    return (
        f"{what}  partition {source.partition} offset {source.offset}  key {key}  "
        f"replayed {replays(source)} times  {_printable(reason)}\n"
    )


def _summarize(what: str, reasons: Counter[str]) -> None:
    sys.stdout.write(f"{what} {reasons.total()}\n")
    for reason, count in reasons.most_common(MAX_REASONS):
        sys.stdout.write(f"  {count}  {_printable(reason)}\n")


def _printable(text: str) -> str:
    """Anybody who can write to Kafka chooses it, and terminals obey control characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_REASON_CHARACTERS])
