from __future__ import annotations

import importlib
import os
import re
from typing import Any

import pytest
import yaml
from argosy_dev.fleet import secrets
from argosy_dev.fleet.paths import REPO_ROOT, FleetPaths, read_pairs
from argosy_dev.parts.replicas import SERVICES
from chassis.kafka import load_topics
from chassis.settings import load

TEXT = (REPO_ROOT / "compose.yaml").read_text(encoding="utf-8")
SPECIFIED: dict[str, Any] = yaml.safe_load(TEXT)["services"]
NAMES = [service.name for service in SERVICES]


@pytest.fixture
def values(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(secrets, "_mint", lambda: "a-key")
    return read_pairs(secrets.write_compose_env(paths))


def test_the_variables_of_the_file_are_those_that_are_written(values: dict[str, str]) -> None:
    needed = set(re.findall(r"\$\{(\w+):\?\}", TEXT))

    assert needed == values.keys()


def test_existing_secrets_are_kept(paths: FleetPaths, values: dict[str, str]) -> None:
    assert read_pairs(secrets.write_compose_env(paths)) == values


def test_every_dependency_exists() -> None:
    dependencies = {name for service in SPECIFIED.values() for name in service.get("depends_on", {})}

    assert dependencies <= SPECIFIED.keys()


def test_each_service_is_built_from_its_folder() -> None:
    built = {name: service["build"]["args"]["SERVICE"] for name, service in SPECIFIED.items() if "build" in service}

    assert built == {name: name for name in NAMES} | {"bootstrap": "dev"}


def test_images_have_a_version_and_no_registry() -> None:
    images = [
        service["image"] for service in SPECIFIED.values() if not service.get("image", "argosy/").startswith("argosy/")
    ]

    assert images
    assert all(re.fullmatch(r"[a-z]+(/[a-z]+)?:[\w.-]*\d[\w.-]*", image) for image in images)


def test_only_the_gateway_has_a_port_and_only_on_the_loopback() -> None:
    published = {name: service["ports"] for name, service in SPECIFIED.items() if "ports" in service}

    assert published == {"gateway": ["127.0.0.1:8080:8080"]}


@pytest.mark.parametrize(
    ("name", "container"),
    [(name, name) for name in NAMES] + [(service.name, "bootstrap") for service in SERVICES if service.schema],
)
def test_each_service_accepts_its_settings(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], name: str, container: str
) -> None:
    service = next(service for service in SERVICES if service.name == name)
    for variable in list(os.environ):
        if variable.startswith(service.prefix):
            monkeypatch.delenv(variable)
    for variable, value in SPECIFIED[container]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{(\w+):\?\}", lambda match: values[match[1]], value))

    load(importlib.import_module(f"{service.module}.settings").Settings)  # exits on an unknown setting


def test_the_image_has_the_topics_in_the_folder_of_the_first_step() -> None:
    assert load_topics(REPO_ROOT / "proto" / "topics")
    assert "COPY --from=build /src/proto/topics /app/topics" in (REPO_ROOT / "Dockerfile").read_text()
    assert "--folder /app/topics" in TEXT
