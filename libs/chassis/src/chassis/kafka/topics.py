"""The list of topics, and their creation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from chassis.errors import Unavailable
from chassis.kafka.broker_security import client_options, explain_refusal
from chassis.kafka.publisher import describe
from chassis.settings import KafkaConnection
from chassis.telemetry import logger

HOUR_MILLISECONDS = 3_600_000
DEAD_LETTER_HOURS = 24 * 30
DEFAULT_POOL = ".default."

log = logger("chassis.kafka")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as its file in `proto/topics` describes it."""

    name: str
    message: str
    owner: str
    partitions: int
    retention_hours: int
    dead_letters: str
    description: str = ""


def load_topics(folder: Path) -> list[Topic]:
    """Read the files of topics. Raises `KeyError` for a file that lacks a field."""
    return [_topic(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.yaml"))]


def _topic(entry: dict[str, Any]) -> Topic:
    return Topic(
        name=entry["topic"],
        message=entry["message"],
        owner=entry["owner"],
        partitions=entry["partitions"],
        retention_hours=entry["retention_hours"],
        dead_letters=entry["dead_letters"],
        description=entry.get("description", ""),
    )


def for_pool(topics: list[Topic], pool: str) -> list[Topic]:
    """Return the topics of another pool: as those of the default one, which are the only ones that have files."""
    return [
        replace(
            topic,
            name=topic.name.replace(DEFAULT_POOL, f".{pool}."),
            dead_letters=topic.dead_letters.replace(DEFAULT_POOL, f".{pool}."),
        )
        for topic in topics
        if DEFAULT_POOL in topic.name
    ]


async def ensure_topics(connection: KafkaConnection, topics: list[Topic], request_seconds: float = 10.0) -> list[str]:
    """Create missing topics and their dead-letter topics; return the names created.

    Existing topics are not changed. Raises `Unavailable` when no broker answers, or the brokers refuse the settings.
    """
    wanted = {t.name: _new(t.name, t.partitions, t.retention_hours) for t in topics}
    wanted |= {t.dead_letters: _new(t.dead_letters, 1, DEAD_LETTER_HOURS) for t in topics if t.dead_letters}
    admin = AIOKafkaAdminClient(**client_options(connection), request_timeout_ms=int(request_seconds * 1000))
    try:
        await admin.start()
        missing = sorted(wanted.keys() - set(await admin.list_topics()))
        if not missing:
            return []
        response = await admin.create_topics([wanted[name] for name in missing])
    except (KafkaError, OSError) as error:
        refusal = await explain_refusal(connection)
        raise Unavailable(refusal or f"kafka does not answer: {describe(error)}") from error
    finally:
        await admin.close()
    created = []
    for name, code, *_ in response.topic_errors:
        problem = for_code(code)
        # Another process created it at the same moment, from the same list.
        if problem is TopicAlreadyExistsError:
            continue
        if code != 0:
            raise Unavailable(f"kafka does not create {name}: {problem.__name__}")
        created.append(name)
    log.info("topics_created", topics=created)
    return created


def _new(name: str, partitions: int, retention_hours: int) -> NewTopic:
    return NewTopic(
        name,
        partitions,
        -1,  # the cluster's default number of replicas
        {},
        {"retention.ms": str(retention_hours * HOUR_MILLISECONDS)},
    )
