"""`python -m orchestrator topics`: create the Kafka topics that are missing, of all services."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from chassis.errors import InvalidRequest
from chassis.kafka import Topic, ensure_topics, for_pool, load_topics
from chassis.settings import KafkaConnection

HELP = "create the topics that are missing, of all services and of further pools"
IMAGE_FOLDER = Path("/app/topics")


def add_topics_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=IMAGE_FOLDER, help=f"folder with a file per topic ({IMAGE_FOLDER}, in images)"
    )
    parser.add_argument(
        "--pool", action="append", default=[], dest="pools", metavar="NAME", help="further pool of workers; repeatable"
    )


def wanted_topics(folder: Path, pools: Sequence[str]) -> list[Topic]:
    """Return the topics of `folder`, and those of `pools`. Raises InvalidRequest when the folder has none."""
    topics = load_topics(folder)
    if not topics:
        raise InvalidRequest(f"There is no file of a topic in {folder}; name the folder with --folder.")
    return [*topics, *(topic for pool in pools for topic in for_pool(topics, pool))]


async def create_topics(connection: KafkaConnection, arguments: argparse.Namespace) -> None:
    """Create what is missing, and print it. Raises Unavailable when no broker answers."""
    created = await ensure_topics(connection, wanted_topics(arguments.folder, arguments.pools))
    sys.stdout.write("".join(f"created {name}\n" for name in created) or "nothing to create\n")
