"""The five services, each a process of its own, and the steps that make them ready to start."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from argosy_dev import probes, secrets, smollm
from argosy_dev.fetch import converted
from argosy_dev.part import Part
from argosy_dev.ports import LOOPBACK
from argosy_dev.state import Home, read_pairs

_DRAIN_SECONDS = 8
_EVERY_PROCESS = {
    "MALLOC_ARENA_MAX": "2",  # threads of native libraries would each keep an arena of memory
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime reports home otherwise
}


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what it keeps its state in and whom it needs before it starts."""

    name: str
    schema: str | None = None
    extensions: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    models: bool = False
    """Whether it reads the converted models."""

    @property
    def module(self) -> str:
        """The Python package."""
        return self.name.replace("-", "_")

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        return f"{self.module.upper()}_"

    @property
    def dsn(self) -> str:
        """Under which name `.argosy/secrets` has the address of its schema for the app role."""
        return f"{self.name}-dsn"

    @property
    def owner_dsn(self) -> str:
        """Under which name `.argosy/secrets` has the address of its schema for the owner role."""
        return f"{self.name}-owner-dsn"

    @property
    def migration(self) -> str:
        """The name of the step that brings its schema up to date."""
        return f"{self.name}-migrate"


SERVICES = (
    Service("gateway", schema="identity", needs=("redis",)),
    Service("orchestrator", schema="orchestration", needs=("topics",)),
    Service("inference-worker", models=True),
    Service("metering", schema="metering", needs=("topics", "redis")),
    Service("retrieval", schema="retrieval", extensions=("vector",), needs=("topics",), models=True),
)


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service. The first bears the service's name, the others a number as well."""

    service: Service
    number: int = 1

    @property
    def name(self) -> str:
        """The name of the part."""
        return self.service.name if self.number == 1 else f"{self.service.name}-{self.number}"

    @property
    def grpc_port(self) -> str:
        """Under which name `.argosy/ports` has its port for its peers."""
        return f"{self.name}-grpc"

    @property
    def ops_port(self) -> str:
        """Under which name `.argosy/ports` has its port for probes and metrics."""
        return f"{self.name}-ops"

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of its ports; the gateway's own name is its public one."""
        public = (self.name,) if self.service.name == "gateway" else ()
        return (*public, self.grpc_port, self.ops_port)


def replicas(counts: Mapping[str, int]) -> list[Replica]:
    """List the processes of all services; a service that `counts` does not name has one."""
    return [Replica(service, number) for service in SERVICES for number in range(1, counts.get(service.name, 1) + 1)]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where everything is that services talk to."""

    home: Home
    ports: Mapping[str, int]
    addresses: Mapping[str, str]
    """Postgres, Redis and Kafka, by the names of `.argosy/env`."""
    upstreams: Mapping[str, Mapping[str, Any]]
    """The user's own language models, by name; each as the inference worker's settings have it."""
    otlp_endpoint: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many replicas a service has, where that is not one."""

    def bind(self, replica: Replica) -> str:
        """Return where a replica answers its peers."""
        return f"{LOOPBACK}:{self.ports[replica.grpc_port]}"

    def peer(self, name: str) -> str:
        """Return where a service answers its peers: at each of its replicas."""
        return ",".join(self.bind(replica) for replica in replicas(self.counts) if replica.service.name == name)


def parts(around: Surroundings) -> list[Part]:
    """Describe the steps and the services."""
    stores = {"ARGOSY_HOME": str(around.home.root), **around.addresses}
    stateful = [service for service in SERVICES if service.schema]
    return [
        _step("schemas", ("-m", "argosy_dev", "prepare-schemas"), ("postgres",), lambda: stores),
        _step("topics", ("-m", "argosy_dev", "prepare-topics"), ("kafka",), lambda: stores),
        *(_migration(service, around) for service in stateful),
        _keys(around),
        *(_replica(replica, around) for replica in replicas(around.counts)),
    ]


def _step(
    name: str, arguments: tuple[str, ...], needs: tuple[str, ...], environment: Callable[[], Mapping[str, str]]
) -> Part:
    command = [sys.executable, *arguments]
    return Part(name=name, command=lambda: command, needs=needs, environment=environment, shown=False)


def _migration(service: Service, around: Surroundings) -> Part:
    def environment() -> Mapping[str, str]:
        owner = read_pairs(around.home.secrets)[service.owner_dsn]
        return _environment(Replica(service), around) | {f"{service.prefix}POSTGRES__OWNER_DSN": owner}

    return _step(service.migration, ("-m", service.module, "migrate"), ("schemas",), environment)


def _keys(around: Surroundings) -> Part:
    """Describe the step that makes sure that the first tenants have the keys of `.argosy/env`."""
    gateway = SERVICES[0]
    names = (secrets.API_KEY, secrets.ADMIN_KEY)

    def mint() -> None:
        for name in names:
            secrets.api_key(around.home, name)

    return Part(
        name="keys",
        command=lambda: [sys.executable, "-m", gateway.module, "bootstrap"],
        needs=(gateway.migration,),
        prepare=mint,
        environment=lambda: _environment(Replica(gateway), around) | secrets.known_keys(around.home),
        shown=False,
    )


def _replica(replica: Replica, around: Surroundings) -> Part:
    service = replica.service
    migrated = (service.migration,) if service.schema else ()
    return Part(
        name=replica.name,
        command=lambda: [sys.executable, "-m", service.module],
        probe=probes.http(around.ports[replica.ops_port], "/readyz"),
        needs=(*service.needs, *migrated),
        ports={name: around.ports[name] for name in replica.ports},
        environment=lambda: _environment(replica, around),
        missing=lambda: None if not service.models or converted(around.home) else "The embedding model",
        grace_seconds=_DRAIN_SECONDS + 4,
    )


def _environment(replica: Replica, around: Surroundings) -> dict[str, str]:
    """Return the settings of a replica: what all services have, what those of its service have, and its own ports."""
    service = replica.service
    own = {
        "gateway": _gateway,
        "orchestrator": _orchestrator,
        "inference-worker": _worker,
        "metering": _metering,
        "retrieval": _retrieval,
    }[service.name](around)
    everybody = {
        "GRPC__BIND": around.bind(replica),
        "OPS__PORT": str(around.ports[replica.ops_port]),
        "PRINCIPAL__SECRETS": secrets.principal_secret(around.home),
        "DRAIN": f"PT{_DRAIN_SECONDS}S",
    }
    if around.otlp_endpoint:
        everybody |= {"TELEMETRY__OTLP_ENDPOINT": around.otlp_endpoint, "TELEMETRY__SAMPLE_RATIO": "1"}
    if service.schema:
        everybody["POSTGRES__DSN"] = read_pairs(around.home.secrets)[service.dsn]
    return _EVERY_PROCESS | {f"{service.prefix}{name}": value for name, value in (everybody | own).items()}


def _gateway(around: Surroundings) -> dict[str, str]:
    return {
        "HTTP__PORT": str(around.ports["gateway"]),
        "REDIS__URL": around.addresses["ARGOSY_REDIS_URL"],
        "PEERS__ORCHESTRATOR": around.peer("orchestrator"),
        "PEERS__METERING": around.peer("metering"),
        "PEERS__RETRIEVAL": around.peer("retrieval"),
    }


def _orchestrator(around: Surroundings) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": around.addresses["ARGOSY_KAFKA_BOOTSTRAP"],
        "TARGETS__WORKER": around.peer("inference-worker"),
        "TARGETS__METERING": around.peer("metering"),
        "TARGETS__RETRIEVAL": around.peer("retrieval"),
    }


def _worker(around: Surroundings) -> dict[str, str]:
    home = around.home
    ours = {
        "local": {
            "kind": "openai",
            "base_url": smollm.url(around.ports["model"]),
            "tokenizer": str(home.smollm_tokenizer),
        },
        "minilm": {"kind": "onnx", "path": str(home.minilm)},
    }
    return {"UPSTREAMS": json.dumps({**ours, **around.upstreams})}


def _metering(around: Surroundings) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": around.addresses["ARGOSY_KAFKA_BOOTSTRAP"],
        "REDIS__URL": around.addresses["ARGOSY_REDIS_URL"],
    }


def _retrieval(around: Surroundings) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": around.addresses["ARGOSY_KAFKA_BOOTSTRAP"],
        "ORCHESTRATOR__TARGET": around.peer("orchestrator"),
        "OBJECTS__URL": around.home.data("objects").as_uri(),
        "EMBEDDING__TOKENIZER": str(around.home.minilm / "tokenizer.json"),
    }
