"""Installs the umbrella chart: its Secret, its database, the values of the test, first routes and prices."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import yaml
from argosy_dev.parts.replicas import SERVICES
from argosy_dev.seed.run import seed
from chassis.postgres import provision
from chassis.testing.postgres import role_password
from gateway.auth.api_key import mint_key

from tests.cluster.kube import CHART, NAMESPACE, RELEASE, apply, run

SCHEMAS = {service.name: service for service in SERVICES if service.schema}
IMAGE = {"prefix": os.environ.get("IMAGE_PREFIX", "argosy"), "tag": os.environ.get("TAG", "dev")}


@dataclass(frozen=True, slots=True)
class Release:
    """An installed release."""

    stores: dict[str, str] = field(repr=False)
    secret: dict[str, str] = field(repr=False)
    values: Path
    install_seconds: float
    """From `helm install` to all pods ready."""

    @property
    def api_key(self) -> str:
        return self.secret["api-key"]

    @property
    def superuser_dsn(self) -> str:
        """Of the release's own database."""
        return self.secret["superuser-dsn"]


def install(stores: dict[str, str], folder: Path) -> Release:
    """Create the namespace, its Secret and database, and install; returns when all pods are ready."""
    secret = asyncio.run(make_secret(stores))
    create_namespace(NAMESPACE)
    keep_secret(RELEASE, secret)
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values(stores)))
    start = time.monotonic()
    helm("install", path, "--wait")
    return Release(stores, secret, path, time.monotonic() - start)


def helm(verb: str, path: Path, *arguments: str) -> str:
    """Install or upgrade the release with the profile `dev` and the values of the test."""
    profile = str(CHART / "profiles/dev.yaml")
    command = ("helm", verb, RELEASE, str(CHART), "--namespace", NAMESPACE, "--timeout", "5m")
    return run(*command, "--values", profile, "--values", str(path), *arguments, seconds=400)


def create_namespace(name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def keep_secret(name: str, secret: dict[str, str]) -> None:
    used = {key: value for key, value in secret.items() if key != "superuser-dsn"}
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": used})


async def make_secret(stores: dict[str, str]) -> dict[str, str]:
    superuser = stores["TESTS_CLUSTER_POSTGRES_DSN"]
    database = f"cluster_{secrets.token_hex(4)}"
    password = role_password(superuser)
    found: dict[str, str] = {}
    for name, service in SCHEMAS.items():
        assert service.schema
        made = await provision(
            superuser,
            database,
            name,
            service.schema,
            app_password=password,
            owner_password=password,
            extensions=service.extensions,
        )
        found |= {f"{name}-dsn": made.dsn, f"{name}-owner-dsn": made.owner_dsn}
    return {
        **found,
        "superuser-dsn": superuser.rpartition("/")[0] + f"/{database}",
        "principal-secrets": secrets.token_hex(32),
        "signing-keys": f"one:{secrets.token_hex(32)}",
        "webhook-secret-keys": secrets.token_hex(32),
        "redis-url": stores["TESTS_CLUSTER_REDIS_URL"],
        "api-key": mint_key("dev")[1],
        "admin-key": mint_key("dev")[1],
    }


def values(stores: dict[str, str]) -> dict[str, Any]:
    def upstream(name: str) -> dict[str, str]:
        return {"kind": "openai", "baseUrl": stores[f"TESTS_CLUSTER_{name}_URL"]}

    upstreams = {"local": upstream("MODEL"), "minilm": upstream("EMBEDDINGS"), "simulator": upstream("SIMULATOR")}
    return {
        "global": {"image": IMAGE, "logLevel": "info", "kafka": {"bootstrap": stores["TESTS_CLUSTER_KAFKA"]}},
        "inference-worker": {"upstreams": upstreams},
    }


def seeded(release: Release) -> Release:
    """Insert the demo's routes and prices."""
    owners = {f"{name.upper()}_POSTGRES__OWNER_DSN": release.secret[f"{name}-owner-dsn"] for name in SCHEMAS}
    seed((), owners)
    return release


async def add_simulated(release: Release, *modes: str) -> None:
    """Route models of the simulator by their own names, without a price of their own."""
    connection = await asyncpg.connect(release.superuser_dsn)
    try:
        for mode in modes:
            await connection.execute(
                "INSERT INTO routes (tenant_id, model, task) VALUES ('*', $1, 'chat') ON CONFLICT DO NOTHING", mode
            )
    finally:
        await connection.close()
