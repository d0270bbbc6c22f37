"""Builds the fleet: which parts it has, on which ports, and what the environment replaces."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from argosy_dev.errors import CliError
from argosy_dev.fleet import ports
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts import kafka_access
from argosy_dev.parts.kafka import kafka_spec
from argosy_dev.parts.models import smollm
from argosy_dev.parts.postgres import dsn, postgres_spec
from argosy_dev.parts.redis import redis_spec, url
from argosy_dev.parts.replicas import SERVICES, list_replicas
from argosy_dev.parts.services import FleetConfig, service_specs

REPLACEABLE = {
    "ARGOSY_POSTGRES_DSN": "postgres",
    "ARGOSY_REDIS_URL": "redis",
    "ARGOSY_KAFKA_BOOTSTRAP": "kafka",
}
"""Variables that name the user's own store, and the part that it replaces."""

UPSTREAMS = "ARGOSY_UPSTREAMS"
"""The user's own language models: a JSON object of upstreams by name; `local` replaces the embedded model."""

OTLP_ENDPOINT = "ARGOSY_OTLP_ENDPOINT"
"""The collector to which the services send all traces."""

REPLICAS = "ARGOSY_REPLICAS"
DRAIN_SECONDS = "ARGOSY_DRAIN_SECONDS"
"""Number of processes of services, as in `orchestrator=2,metering=2`; one for those that are not named."""

_STORE_PORTS = ("postgres", "redis", "kafka", "kafka-controller", "model")
MAX_REPLICAS = 9


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of one fleet and the addresses for its clients."""

    specs: Mapping[str, ProcessSpec]
    addresses: Mapping[str, str]
    """The variables of `.argosy/env` that are addresses."""

    def with_dependencies(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return `names` and all that they need, in start order; no names mean every part."""
        ordered: dict[str, None] = {}

        def add(name: str) -> None:
            for need in self.specs[name].needs:
                add(need)
            ordered[name] = None

        for name in names or self.specs:
            if name in self.specs:
                add(name)
            elif name not in REPLACEABLE.values():
                raise CliError(f"There is no part {name!r}; the parts are {', '.join(self.specs)}.")
        return tuple(ordered)


def environment_overrides(paths: FleetPaths, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the environment replaces or adds, as variable and value.

    A variable with the fleet's own address (the shell has read `.argosy/env`) replaces nothing.
    """
    env = os.environ if environment is None else environment
    own = build_fleet(paths, {}).addresses
    names = (*REPLACEABLE, *kafka_access.VARIABLES, UPSTREAMS, OTLP_ENDPOINT, REPLICAS, DRAIN_SECONDS)
    return {name: env[name] for name in names if env.get(name) and env[name] != own.get(name)}


def build_fleet(paths: FleetPaths, overrides: Mapping[str, str]) -> Fleet:
    """Specify all parts, without those that the overrides replace."""
    counts = _replica_counts(overrides)
    names = [name for replica in list_replicas(counts) for name in replica.ports]
    port = ports.load(paths, (*names, *_STORE_PORTS))
    upstreams = _upstreams(overrides)
    addresses = {
        "ARGOSY_BASE_URL": f"http://{ports.LOOPBACK}:{port['gateway']}",
        "ARGOSY_POSTGRES_DSN": dsn(paths, port["postgres"]),
        "ARGOSY_REDIS_URL": url(port["redis"]),
        "ARGOSY_KAFKA_BOOTSTRAP": f"{ports.LOOPBACK}:{port['kafka']}",
    } | {name: address for name, address in overrides.items() if name in REPLACEABLE}
    access = {name: value for name, value in overrides.items() if name in kafka_access.VARIABLES}
    kafka_access.connection({**addresses, **access})
    config = FleetConfig(
        paths=paths,
        ports=port,
        addresses=addresses,
        upstreams=upstreams,
        otlp_endpoint=overrides.get(OTLP_ENDPOINT, ""),
        replicas=counts,
        kafka_access=access,
        drain_seconds=_drain_seconds(overrides),
    )
    specs = [
        postgres_spec(paths, port["postgres"]),
        redis_spec(paths, port["redis"]),
        kafka_spec(paths, port["kafka"], port["kafka-controller"]),
        smollm.model_spec(paths, port["model"]),
        *service_specs(config),
    ]
    replaced = {REPLACEABLE[name] for name in overrides if name in REPLACEABLE}
    if "local" in upstreams:
        replaced.add("model")
    return Fleet({spec.name: spec.without(replaced) for spec in specs if spec.name not in replaced}, addresses)


def _upstreams(overrides: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    try:
        upstreams = json.loads(overrides.get(UPSTREAMS, "{}"))
    except ValueError as error:
        raise CliError(f"{UPSTREAMS} is not JSON: {error}.") from error
    if not isinstance(upstreams, dict) or not all(isinstance(upstream, dict) for upstream in upstreams.values()):
        raise CliError(f"{UPSTREAMS} must be a JSON object that has an object for each upstream, by name.")
    return upstreams


def _replica_counts(overrides: Mapping[str, str]) -> dict[str, int]:
    """Parse ARGOSY_REPLICAS. The gateway always has one process, because there is one public port."""
    scalable = [service.name for service in SERVICES if service.name != "gateway"]
    counts = {}
    for word in filter(None, (word.strip() for word in overrides.get(REPLICAS, "").split(","))):
        name, _, count = word.partition("=")
        if name not in scalable or not count.isdecimal() or not 1 <= int(count) <= MAX_REPLICAS:
            raise CliError(
                f"{REPLICAS} has {word!r} where SERVICE=COUNT belongs, "
                f"with one of {', '.join(scalable)} and a count from 1 to {MAX_REPLICAS}."
            )
        counts[name] = int(count)
    return counts


def _drain_seconds(overrides: Mapping[str, str]) -> int:
    text = overrides.get(DRAIN_SECONDS, "8")
    if not text.isdecimal() or not 1 <= int(text) <= 300:
        raise CliError(f"{DRAIN_SECONDS} is {text!r} where whole seconds from 1 to 300 belong.")
    return int(text)


def parse_endpoint(variable: str, address: str) -> tuple[str, int]:
    """Return the host and port of the (first) address in a variable."""
    text = address.split(",", maxsplit=1)[0]
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise CliError(f"{variable} needs an address with a host and a port.")
    return host, port
