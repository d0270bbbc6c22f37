"""The five services, and their processes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """One service, its schema and its dependencies."""

    name: str
    schema: str | None = None
    extensions: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    models: bool = False
    """Whether it reads the converted models."""
    seeded: bool = False
    """Whether `argosy_dev.seed` has demo data for it."""
    grpc: bool = True
    """Whether it serves gRPC."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def prefix(self) -> str:
        return f"{self.module.upper()}_"

    @property
    def dsn(self) -> str:
        """The entry of `.argosy/secrets` with the address of its schema for the app role."""
        return f"{self.name}-dsn"

    @property
    def owner_dsn(self) -> str:
        """The entry of `.argosy/secrets` with the address of its schema for the owner role."""
        return f"{self.name}-owner-dsn"

    @property
    def migration(self) -> str:
        """The step that migrates its schema."""
        return f"{self.name}-migrate"

    @property
    def seed(self) -> str:
        """The step that inserts its demo data."""
        return f"{self.name}-seed"

    @property
    def preparation(self) -> tuple[str, ...]:
        """The last step before its processes can start."""
        if not self.schema:
            return ()
        return (self.seed if self.seeded else self.migration,)


SERVICES = (
    Service("gateway", schema="identity", needs=("redis",), grpc=False),
    Service("orchestrator", schema="orchestration", needs=("topics", "redis"), seeded=True),
    Service("inference-worker", needs=("topics", "redis"), models=True),
    Service("metering", schema="metering", needs=("topics", "redis"), seeded=True),
    Service("retrieval", schema="retrieval", extensions=("vector",), needs=("topics",), models=True),
)


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service. The first has the service's name, the others a number as well."""

    service: Service
    number: int = 1

    @property
    def name(self) -> str:
        return self.service.name if self.number == 1 else f"{self.service.name}-{self.number}"

    @property
    def grpc_port(self) -> str:
        """The entry of `.argosy/ports` with its port for peers."""
        return f"{self.name}-grpc"

    @property
    def ops_port(self) -> str:
        """The entry of `.argosy/ports` with its port for probes and metrics."""
        return f"{self.name}-ops"

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of its ports; the gateway's public port has the gateway's name."""
        return (self.grpc_port if self.service.grpc else self.name, self.ops_port)


def list_replicas(counts: Mapping[str, int]) -> list[Replica]:
    """List the processes of all services; a service that `counts` does not name has one."""
    return [Replica(service, number) for service in SERVICES for number in range(1, counts.get(service.name, 1) + 1)]
