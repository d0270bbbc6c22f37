"""Apache Kafka's jars: a list with checksums, downloaded once by Maven coordinates.

`kafka.jars` lists every jar with its SHA-256, so that a download needs no POMs, trusts no mirror and is reproducible.
`resolve` rewrites it after a change of version. The repositories are jgo's default and those of the user's jgo
configuration.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy_dev.errors import CliError

LIST = Path(__file__).with_name("kafka.jars")
_KAFKA = "4.1.1"
# A log4j coordinate beside these resolves an old kafka-clients, which breaks the broker.
_ROOTS = (f"org.apache.kafka:kafka_2.13:{_KAFKA}", "org.slf4j:slf4j-simple:1.7.36")
# Without its dependencies (Connect and more): the console consumer needs none of them.
_WITHOUT_DEPENDENCIES = (f"org.apache.kafka:kafka-tools:{_KAFKA}",)
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
    lines = (
        line.split() for line in LIST.read_text(encoding="ascii").splitlines() if line and not line.startswith("#")
    )
    return [Jar(coordinate, sha256) for coordinate, sha256 in lines]


def class_path(repository: Path) -> str:
    """Return Java's class path over all jars of the list."""
    return ":".join(str(jar.path(repository)) for jar in listed())


def missing(repository: Path) -> list[Jar]:
    """Return the jars that are not downloaded yet."""
    return [jar for jar in listed() if not jar.path(repository).exists()]


def fetch(repository: Path, report: Callable[[str], None]) -> None:
    """Download the missing jars, six at a time, and check each against the list; idempotent."""
    jars = missing(repository)
    if not jars:
        return
    report(f"downloading {len(jars)} jars of Apache Kafka {_KAFKA}")
    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda jar: _download(jar, repository), jars):
            pass


def resolve(repository: Path) -> None:
    """Rewrite the list from the root coordinates and their POMs."""
    context = repository_at(repository)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in _ROOTS])
    needed = [node for node in transitive if node.scope in ("compile", "runtime")]
    single = [context.create_dependency(coordinate) for coordinate in _WITHOUT_DEPENDENCIES]
    artifacts = [node.artifact for node in (*inputs, *needed, *single)]
    _write((f"{a.groupId}:{a.artifactId}:{a.version}", digest(Path(a.resolve()))) for a in artifacts)


def _write(parts: Iterable[tuple[str, str]]) -> None:
    head = "# Apache Kafka and what it needs: coordinate, SHA-256. Written by `python -m argosy_dev resolve-jars`.\n"
    lines = "".join(f"{coordinate} {digest}\n" for coordinate, digest in sorted(parts))
    LIST.write_text(head + lines, encoding="ascii")


def _download(jar: Jar, repository: Path) -> None:
    """Download one jar to a staging folder and move it into place once its checksum is right."""
    import requests  # noqa: PLC0415 - jgo's HTTP client; only setup needs it

    staging = repository / ".partial"
    artifact = repository_at(staging).create_dependency(jar.coordinate).artifact
    for attempt in range(_ATTEMPTS):
        jar.path(staging).unlink(missing_ok=True)
        try:
            downloaded = Path(artifact.resolve())
        except (RuntimeError, requests.RequestException) as error:
            if attempt == _ATTEMPTS - 1:
                raise CliError(f"Could not download {jar.coordinate}: {error}.") from error
            time.sleep(2**attempt)
        else:
            break
    if digest(downloaded) != jar.sha256:
        downloaded.unlink()
        raise CliError(f"The download of {jar.coordinate} does not have the checksum of {LIST.name}.")
    jar.path(repository).parent.mkdir(parents=True, exist_ok=True)
    downloaded.rename(jar.path(repository))


def repository_at(repository: Path) -> Any:
    """Return a jgo context (untyped) that caches the Maven repositories in `repository`."""
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=30)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
