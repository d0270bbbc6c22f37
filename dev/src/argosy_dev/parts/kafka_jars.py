"""Apache Kafka's jars: a list with checksums, downloaded once by Maven coordinates.

`kafka.jars` names every jar, so that a download walks no POMs, trusts no mirror and is the same tomorrow. `resolve`
writes it anew after a change of version. The repositories are jgo's default and those of the user's jgo configuration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy_dev.refusals import Refusal

LIST = Path(__file__).with_name("kafka.jars")
_KAFKA = "4.1.1"
# A log4j coordinate beside these resolves an old kafka-clients, which breaks the broker.
_ROOTS = (f"org.apache.kafka:kafka_2.13:{_KAFKA}", "org.slf4j:slf4j-simple:1.7.36")
# The tools' own dependencies are Connect and more; the console consumer needs none of them.
_ALONE = (f"org.apache.kafka:kafka-tools:{_KAFKA}",)
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the list."""

    coordinate: str
    sha256: str

    def path(self, repository: Path) -> Path:
        """Return where a Maven repository keeps this jar."""
        group, artifact, version = self.coordinate.split(":")
        return repository.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def listed() -> list[Jar]:
    """Read the list."""
    lines = (
        line.split() for line in LIST.read_text(encoding="ascii").splitlines() if line and not line.startswith("#")
    )
    return [Jar(coordinate, sha256) for coordinate, sha256 in lines]


def class_path(repository: Path) -> str:
    """Return Java's class path over all jars of the list."""
    return ":".join(str(jar.path(repository)) for jar in listed())


def missing(repository: Path) -> list[Jar]:
    """Return the jars that are not there yet."""
    return [jar for jar in listed() if not jar.path(repository).exists()]


def fetch(repository: Path, tell: Callable[[str], None]) -> None:
    """Download what is missing, several at a time, and check each against the list; safe to repeat."""
    wanted = missing(repository)
    if not wanted:
        return
    tell(f"downloading {len(wanted)} jars of Apache Kafka {_KAFKA}")
    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda jar: _download(jar, repository), wanted):
            pass


def resolve(repository: Path) -> None:
    """Write the list anew from the root coordinates; walks every POM."""
    context = repository_at(repository)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in _ROOTS])
    needed = [node for node in transitive if node.scope in ("compile", "runtime")]
    alone = [context.create_dependency(coordinate) for coordinate in _ALONE]
    artifacts = [node.artifact for node in (*inputs, *needed, *alone)]
    _write((f"{a.groupId}:{a.artifactId}:{a.version}", digest(Path(a.resolve()))) for a in artifacts)


def _write(entries: Iterable[tuple[str, str]]) -> None:
    head = "# Apache Kafka and what it needs: coordinate, SHA-256. Written by `python -m argosy_dev resolve-jars`.\n"
    lines = "".join(f"{coordinate} {digest}\n" for coordinate, digest in sorted(entries))
    LIST.write_text(head + lines, encoding="ascii")


def _download(jar: Jar, repository: Path) -> None:
    """Download one jar beside its place and move it there once its checksum is right."""
    import requests  # noqa: PLC0415 - what jgo downloads with; only a set-up needs it

    staging = repository / ".partial"
    artifact = repository_at(staging).create_dependency(jar.coordinate).artifact
    for attempt in range(_ATTEMPTS):
        jar.path(staging).unlink(missing_ok=True)
        try:
            arrived = Path(artifact.resolve())
        except (RuntimeError, requests.RequestException) as error:
            if attempt == _ATTEMPTS - 1:
                raise Refusal(f"Could not download {jar.coordinate}: {error}.") from error
            time.sleep(2**attempt)
        else:
            break
    if digest(arrived) != jar.sha256:
        arrived.unlink()
        raise Refusal(f"The download of {jar.coordinate} does not have the checksum of {LIST.name}.")
    jar.path(repository).parent.mkdir(parents=True, exist_ok=True)
    arrived.rename(jar.path(repository))


def repository_at(repository: Path) -> Any:
    """Open the Maven repositories, with their local copy in `repository`; a jgo context, which has no types."""
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=30)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
