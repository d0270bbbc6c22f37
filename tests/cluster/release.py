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
from chassis.ids import new_id
from chassis.postgres import provision
from chassis.testing.postgres import role_password
from gateway.auth.api_key import mint_key

from tests.cluster.kube import CHART, NAMESPACE, RELEASE, apply, has_keda, run
from tests.fleet.client import add_route

SLOTS, MAX_WORKERS, POLLING_SECONDS, SCALE_DOWN_SECONDS = 5, 4, 5, 60
# Metering never changes a price row; in nano-USD per million tokens.
ADD_PRICE = """
INSERT INTO metering.prices (tenant_id, version, price_key, input_per_million, output_per_million, effective_at)
SELECT '*', $1, $2, 1000000000, 2000000000, '2026-01-01T00:00:00Z'
WHERE NOT EXISTS (SELECT FROM metering.prices WHERE tenant_id = '*' AND price_key = $2)
"""
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
    def admin_key(self) -> str:
        return self.secret["admin-key"]

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
    """Of the test, on top of the profile `dev`; with KEDA the workers scale on their queue."""

    def upstream(name: str) -> dict[str, str]:
        return {"kind": "openai", "baseUrl": stores[f"TESTS_CLUSTER_{name}_URL"]}

    upstreams = {"local": upstream("MODEL"), "minilm": upstream("EMBEDDINGS"), "simulator": upstream("SIMULATOR")}
    keda = has_keda()
    return {
        "global": {
            "image": IMAGE,
            "logLevel": "info",
            "kafka": {"bootstrap": stores["TESTS_CLUSTER_KAFKA"]},
            "autoscaling": {
                "mode": "keda" if keda else "none",
                "pollingSeconds": POLLING_SECONDS,
                "scaleDownSeconds": SCALE_DOWN_SECONDS,
            },
            "runtimePools": {"enabled": keda, "maxPools": 2, "maxReplicas": 6},
        },
        "inference-worker": {
            "upstreams": upstreams,
            "slots": SLOTS,
            "autoscaling": {"enabled": keda, "minReplicas": 1, "maxReplicas": MAX_WORKERS},
        },
        # What a killed orchestrator has reserved is settled within a minute.
        "orchestrator": {
            "env": {
                "ORCHESTRATOR_TIMEOUTS__FIRST_BYTE": 30,
                "ORCHESTRATOR_TIMEOUTS__NON_STREAMED": 30,
                "ORCHESTRATOR_TIMEOUTS__ABORT": 5,
                "ORCHESTRATOR_RESERVATION_LEASE": 5,
            }
        },
        "gateway": {"env": {"GATEWAY_LIMITS__DEADLINE": 40}},
        "metering": {"env": {"METERING_SWEEPER__INTERVAL": 2}},
    }


def seeded(release: Release) -> Release:
    """Insert the demo's routes and prices."""
    owners = {f"{name.upper()}_POSTGRES__OWNER_DSN": release.secret[f"{name}-owner-dsn"] for name in SCHEMAS}
    seed((), owners)
    return release


async def add_models(release: Release, models: dict[str, str]) -> None:
    """Route public models, with a price, to models of the simulator."""
    connection = await asyncpg.connect(release.superuser_dsn, server_settings={"argosy.tenant": "*"})
    try:
        for name, simulated in models.items():
            await add_route(connection, name, [simulated])
            await connection.execute(ADD_PRICE, new_id("prc_"), f"simulator/{simulated}")
    finally:
        await connection.close()
