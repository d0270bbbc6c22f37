from __future__ import annotations

import importlib
import os
import re
from typing import Any

import pytest
import yaml
from argosy_dev import secrets
from argosy_dev.services import SERVICES
from argosy_dev.state import CLONE, Home, read_pairs
from chassis.kafka import load_topics
from chassis.settings import load

TEXT = (CLONE / "compose.yaml").read_text(encoding="utf-8")
SPECIFIED: dict[str, Any] = yaml.safe_load(TEXT)["services"]
NAMES = [service.name for service in SERVICES]


@pytest.fixture
def values(home: Home, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(secrets, "_mint", lambda: "a-key")
    return read_pairs(secrets.write_compose_env(home))


def test_what_the_file_asks_for_is_what_is_written(values: dict[str, str]) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?\}", TEXT))

    assert asked == values.keys()


def test_secrets_that_were_written_stay(home: Home, values: dict[str, str]) -> None:
    assert read_pairs(secrets.write_compose_env(home)) == values


def test_everything_that_is_waited_for_exists() -> None:
    waited = {name for service in SPECIFIED.values() for name in service.get("depends_on", {})}

    assert waited <= SPECIFIED.keys()


def test_all_services_are_there_and_built_from_their_folders() -> None:
    built = {name: service["build"]["args"]["SERVICE"] for name, service in SPECIFIED.items() if "build" in service}

    assert built == {name: name for name in NAMES} | {"bootstrap": "dev"}


def test_images_come_with_a_version_and_without_an_address() -> None:
    images = [
        service["image"] for service in SPECIFIED.values() if not service.get("image", "argosy/").startswith("argosy/")
    ]

    assert images
    assert all(re.fullmatch(r"[a-z]+(/[a-z]+)?:[\w.-]*\d[\w.-]*", image) for image in images)


def test_nothing_but_the_gateway_can_be_reached_and_that_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SPECIFIED.items() if "ports" in service}

    assert published == {"gateway": ["127.0.0.1:8080:8080"]}


@pytest.mark.parametrize(
    ("name", "container"),
    [(name, name) for name in NAMES] + [(service.name, "bootstrap") for service in SERVICES if service.schema],
)
def test_each_service_accepts_the_settings_it_is_given(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], name: str, container: str
) -> None:
    service = next(service for service in SERVICES if service.name == name)
    for variable in list(os.environ):
        if variable.startswith(service.prefix):
            monkeypatch.delenv(variable)
    for variable, value in SPECIFIED[container]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{(\w+):\?\}", lambda match: values[match[1]], value))

    load(importlib.import_module(f"{service.module}.settings").Settings)  # exits at what it does not know


def test_the_image_has_the_topics_where_the_first_step_looks() -> None:
    assert load_topics(CLONE / "proto" / "topics")
    assert "COPY --from=build /src/proto/topics /app/topics" in (CLONE / "Dockerfile").read_text()
    assert "--folder /app/topics" in TEXT
