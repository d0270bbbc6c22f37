"""The steps between empty stores and services that can start: roles, schemas, topics. Each is safe to repeat."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chassis.kafka import ensure_topics, load_topics
from chassis.postgres import provision
from chassis.testing.postgres import role_password

from argosy_dev import secrets
from argosy_dev.postgres import DATABASE
from argosy_dev.services import SERVICES
from argosy_dev.state import Home


def prepare_schemas(home: Home, superuser_dsn: str) -> None:
    """Make each service's roles and schema, and keep the addresses under which it finds them."""
    asyncio.run(_schemas(home, superuser_dsn))


def prepare_topics(bootstrap: str, folder: Path) -> None:
    """Make the topics of `folder` and their dead letters."""
    for name in asyncio.run(ensure_topics(bootstrap, load_topics(folder))):
        print(f"created {name}")


async def _schemas(home: Home, superuser_dsn: str) -> None:
    # The user's own Postgres may call its database differently.
    database = unquote(urlsplit(superuser_dsn).path.lstrip("/")) or DATABASE
    password = os.environ.get("ARGOSY_ROLE_PASSWORD") or role_password(superuser_dsn)
    for service in SERVICES:
        if not service.schema:
            continue
        made = await provision(
            superuser_dsn,
            database,
            service.name,
            service.schema,
            app_password=password,
            owner_password=password,
            extensions=service.extensions,
        )
        secrets.keep(home, {service.dsn: made.dsn, service.owner_dsn: made.owner_dsn})
