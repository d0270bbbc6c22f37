"""The five services, each as one or more processes, and the steps that prepare their stores."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from argosy_dev.fleet import readiness, secrets
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts.kafka_access import service_settings
from argosy_dev.parts.models import smollm
from argosy_dev.parts.models.convert import models_are_converted
from argosy_dev.parts.replicas import SERVICES, Replica, Service, list_replicas

_PROCESS_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",  # else each thread of a native library keeps its own arena
    "ORT_DISABLE_TELEMETRY": "1",  # else onnxruntime sends usage data to its makers
}


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """The ports, addresses and folders that the services' settings are made of."""

    paths: FleetPaths
    ports: Mapping[str, int]
    addresses: Mapping[str, str]
    """Postgres, Redis and Kafka, by their variables in `.argosy/env`."""
    upstreams: Mapping[str, Mapping[str, Any]]
    """The user's own language models, by name; each as in the inference worker's settings."""
    otlp_endpoint: str = ""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Number of processes of a service, where it is not one."""
    kafka_access: Mapping[str, str] = field(default_factory=dict)
    """How clients of the user's own Kafka encrypt and authenticate, as in the environment."""
    drain_seconds: int = 8
    """What a service has to finish after SIGTERM."""

    def bind(self, replica: Replica) -> str:
        """Return the address at which a replica serves its peers."""
        return f"{LOOPBACK}:{self.ports[replica.grpc_port]}"

    def peer(self, name: str) -> str:
        """Return the addresses of all replicas of a service."""
        return ",".join(self.bind(replica) for replica in list_replicas(self.replicas) if replica.service.name == name)


def service_specs(config: FleetConfig) -> list[ProcessSpec]:
    """Specify the preparing steps and the services."""
    stores = {"ARGOSY_HOME": str(config.paths.root), **config.addresses}
    with_schema = [service for service in SERVICES if service.schema]
    return [
        _step("schemas", ("-m", "argosy_dev", "provision-schemas"), ("postgres",), lambda: stores),
        _step(
            "topics", ("-m", "argosy_dev", "provision-topics"), ("kafka",), lambda: {**stores, **config.kafka_access}
        ),
        *(_migration_spec(service, config) for service in with_schema),
        *(_seed_spec(service, config) for service in with_schema if service.seeded),
        _keys_spec(config),
        *(_replica_spec(replica, config) for replica in list_replicas(config.replicas)),
    ]


def _step(
    name: str, arguments: tuple[str, ...], needs: tuple[str, ...], environment: Callable[[], Mapping[str, str]]
) -> ProcessSpec:
    command = [sys.executable, *arguments]
    return ProcessSpec(name=name, command=lambda: command, needs=needs, environment=environment, shown=False)


def _owner_environment(service: Service, config: FleetConfig) -> Mapping[str, str]:
    owner = read_pairs(config.paths.secrets)[service.owner_dsn]
    return _environment(Replica(service), config) | {f"{service.prefix}POSTGRES__OWNER_DSN": owner}


def _migration_spec(service: Service, config: FleetConfig) -> ProcessSpec:
    arguments = ("-m", service.module, "migrate")
    return _step(service.migration, arguments, ("schemas",), lambda: _owner_environment(service, config))


def _seed_spec(service: Service, config: FleetConfig) -> ProcessSpec:
    arguments = ("-m", "argosy_dev", "seed", service.name)
    return _step(service.seed, arguments, (service.migration,), lambda: _owner_environment(service, config))


def _keys_spec(config: FleetConfig) -> ProcessSpec:
    """Specify the step that creates the first tenants with the API keys of `.argosy/env`."""
    gateway = SERVICES[0]

    def mint() -> None:
        for name in (secrets.API_KEY, secrets.ADMIN_KEY):
            secrets.api_key(config.paths, name)

    return ProcessSpec(
        name="keys",
        command=lambda: [sys.executable, "-m", gateway.module, "bootstrap"],
        needs=(gateway.migration,),
        prepare=mint,
        environment=lambda: _environment(Replica(gateway), config) | secrets.minted_keys(config.paths),
        shown=False,
    )


def _replica_spec(replica: Replica, config: FleetConfig) -> ProcessSpec:
    service = replica.service
    return ProcessSpec(
        name=replica.name,
        command=lambda: [sys.executable, "-m", service.module],
        probe=readiness.http(config.ports[replica.ops_port], "/readyz"),
        # While a store is down no service is ready, and none hangs.
        alive=readiness.http(config.ports[replica.ops_port], "/healthz"),
        needs=(*service.needs, *service.preparation),
        ports={name: config.ports[name] for name in replica.ports},
        environment=lambda: _environment(replica, config),
        missing=lambda: None if not service.models or models_are_converted(config.paths) else "The embedding model",
        grace_seconds=config.drain_seconds + 4,
    )


def _environment(replica: Replica, config: FleetConfig) -> dict[str, str]:
    """Return the settings of a replica."""
    service = replica.service
    settings = {
        "OPS__PORT": str(config.ports[replica.ops_port]),
        "PRINCIPAL__SECRETS": secrets.principal_secret(config.paths),
        "DRAIN": f"PT{config.drain_seconds}S",
    }
    if service.grpc:
        settings["GRPC__BIND"] = config.bind(replica)
    if config.otlp_endpoint:
        settings |= {"TELEMETRY__OTLP_ENDPOINT": config.otlp_endpoint, "TELEMETRY__SAMPLE_RATIO": "1"}
    if service.schema:
        settings["POSTGRES__DSN"] = read_pairs(config.paths.secrets)[service.dsn]
    settings |= _SETTINGS[service.name](config)
    return _PROCESS_ENVIRONMENT | {f"{service.prefix}{name}": value for name, value in settings.items()}


def _gateway(config: FleetConfig) -> dict[str, str]:
    return {
        "HTTP__PORT": str(config.ports["gateway"]),
        "REDIS__URL": config.addresses["ARGOSY_REDIS_URL"],
        "PEERS__ORCHESTRATOR": config.peer("orchestrator"),
        "PEERS__METERING": config.peer("metering"),
        "PEERS__RETRIEVAL": config.peer("retrieval"),
    }


def _kafka(config: FleetConfig) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": config.addresses["ARGOSY_KAFKA_BOOTSTRAP"],
        "KAFKA__SIGNING_KEYS": secrets.event_signing_keys(config.paths),
        **service_settings(config.kafka_access),
    }


def _orchestrator(config: FleetConfig) -> dict[str, str]:
    return {
        **_kafka(config),
        "REDIS__URL": config.addresses["ARGOSY_REDIS_URL"],
        "PEERS__INFERENCE_WORKER": config.peer("inference-worker"),
        "PEERS__METERING": config.peer("metering"),
        "PEERS__RETRIEVAL": config.peer("retrieval"),
        "UPSTREAMS__CREDENTIAL_KEYS": secrets.credential_key(config.paths),
        # Webhooks may be sent to this machine, which is the developer's own.
        "WEBHOOKS__SECRET_KEYS": secrets.webhook_secret_key(config.paths),
        "WEBHOOKS__ALLOW_HTTP": "true",
        "WEBHOOKS__PORTS": "*",
        "WEBHOOKS__ALLOWED_TARGETS": "127.0.0.0/8,::1/128",
    }


def _inference_worker(config: FleetConfig) -> dict[str, str]:
    paths = config.paths
    embedded = {
        "local": {
            "kind": "openai",
            "base_url": smollm.url(config.ports["model"]),
            "tokenizer": str(paths.smollm_tokenizer),
        },
        "minilm": {"kind": "onnx", "path": str(paths.minilm), "threads": min(2, os.cpu_count() or 1)},
    }
    return {
        **_kafka(config),
        "UPSTREAMS": json.dumps({**embedded, **config.upstreams}),
        "CREDENTIAL_KEYS": secrets.credential_key(paths),
        "REDIS__URL": config.addresses["ARGOSY_REDIS_URL"],
        "PEERS__ORCHESTRATOR": config.peer("orchestrator"),
    }


def _metering(config: FleetConfig) -> dict[str, str]:
    return {
        **_kafka(config),
        "REDIS__URL": config.addresses["ARGOSY_REDIS_URL"],
        "PEERS__ORCHESTRATOR": config.peer("orchestrator"),
    }


def _retrieval(config: FleetConfig) -> dict[str, str]:
    return {
        **_kafka(config),
        "PEERS__ORCHESTRATOR": config.peer("orchestrator"),
        "OBJECTS__URL": config.paths.data("objects").as_uri(),
        "EMBEDDING__TOKENIZER": str(config.paths.minilm / "tokenizer.json"),
    }


_SETTINGS: Mapping[str, Callable[[FleetConfig], dict[str, str]]] = {
    "gateway": _gateway,
    "orchestrator": _orchestrator,
    "inference-worker": _inference_worker,
    "metering": _metering,
    "retrieval": _retrieval,
}
