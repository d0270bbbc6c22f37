"""Creates the roles, schemas and topics that the services need; each function is idempotent."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chassis.errors import Unavailable
from chassis.kafka import ensure_topics, for_pool, load_topics
from chassis.postgres import provision
from chassis.testing.postgres import role_password

from argosy_dev.errors import CliError
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.parts import kafka_access
from argosy_dev.parts.postgres import DATABASE
from argosy_dev.parts.replicas import SERVICES


def provision_schemas(paths: FleetPaths, superuser_dsn: str) -> None:
    """Create each service's roles and schema, and save their addresses in the fleet's secrets."""
    asyncio.run(_schemas(paths, superuser_dsn))


def provision_topics(environment: Mapping[str, str], folder: Path, pools: Sequence[str] = ()) -> None:
    """Create the topics of `folder`, those of further pools, and their dead-letter topics.

    They are created on the Kafka in the environment.
    """
    topics = load_topics(folder)
    wanted = [*topics, *(topic for pool in pools for topic in for_pool(topics, pool))]
    try:
        created = asyncio.run(ensure_topics(kafka_access.connection(environment), wanted))
    except Unavailable as error:
        raise CliError(f"{error}.") from error
    for name in created:
        print(f"created {name}")


async def _schemas(paths: FleetPaths, superuser_dsn: str) -> None:
    # The user's own Postgres may have a database of another name.
    database = unquote(urlsplit(superuser_dsn).path.lstrip("/")) or DATABASE
    password = os.environ.get("ARGOSY_ROLE_PASSWORD") or role_password(superuser_dsn)
    for service in SERVICES:
        if not service.schema:
            continue
        schema = await provision(
            superuser_dsn,
            database,
            service.name,
            service.schema,
            app_password=password,
            owner_password=password,
            extensions=service.extensions,
        )
        secrets.save(paths, {service.dsn: schema.dsn, service.owner_dsn: schema.owner_dsn})
