from __future__ import annotations

import re
from pathlib import Path

import pytest
from argosy_dev.errors import CliError
from argosy_dev.fleet.paths import REPO_ROOT
from argosy_dev.parts import kafka_jars


def test_every_jar_has_an_exact_version_and_a_checksum() -> None:
    for jar in kafka_jars.listed():
        assert re.fullmatch(r"[\w.-]+:[\w.-]+:[\d.]+(-\d+)?", jar.coordinate)
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)


def test_the_list_holds_the_broker_its_console_consumer_and_one_logger() -> None:
    names = {jar.coordinate.split(":")[1] for jar in kafka_jars.listed()}

    assert {"kafka_2.13", "kafka-clients", "kafka-tools", "slf4j-simple"} <= names


def test_kafkas_own_jars_are_of_one_version() -> None:
    versions = {
        c.split(":")[2] for c in (jar.coordinate for jar in kafka_jars.listed()) if c.startswith("org.apache.kafka:")
    }

    assert len(versions) == 1


def test_installed_jars_have_the_checksums_of_the_list() -> None:
    repository = REPO_ROOT / ".argosy" / "jars"

    wrong = [jar.coordinate for jar in kafka_jars.listed() if kafka_jars.digest(jar.path(repository)) != jar.sha256]

    assert wrong == []


def test_existing_jars_are_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = kafka_jars.Jar("org.toys:boat:1.0", "0" * 64)
    jar.path(tmp_path).parent.mkdir(parents=True)
    jar.path(tmp_path).touch()
    monkeypatch.setattr(kafka_jars, "listed", lambda: [jar])
    reported: list[str] = []

    kafka_jars.fetch(tmp_path, reported.append)

    assert reported == []


def test_a_download_with_a_wrong_checksum_is_rejected_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = kafka_jars.Jar("org.example:thing:1.0", "0" * 64)
    monkeypatch.setattr(kafka_jars, "listed", lambda: [jar])
    monkeypatch.setattr(kafka_jars, "repository_at", lambda repository: TamperedRepository(jar.path(repository)))

    with pytest.raises(CliError, match=r"org\.example:thing:1\.0 does not have the checksum of kafka\.jars"):
        kafka_jars.fetch(tmp_path, lambda _: None)

    assert list(tmp_path.rglob("*.jar")) == []


class TamperedRepository:
    """A repository that serves other bytes."""

    def __init__(self, path: Path) -> None:
        self.artifact = self
        self._path = path

    def create_dependency(self, _: str) -> TamperedRepository:
        return self

    def resolve(self) -> str:
        self._path.parent.mkdir(parents=True)
        self._path.write_bytes(b"something else")
        return str(self._path)
