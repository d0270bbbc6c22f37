"""The list of topics, the messages and the code agree."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "proto/topics").glob("*.yaml"))
TOPICS = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
FAMILY = re.compile(r"argosy\.[a-z]+\.[a-z]+(?:-[a-z]+)*\.v\d+")
"""What code names: a topic per pool and lane of an event has both behind it."""
SERVICES = {path.name for path in (ROOT / "services").iterdir() if path.is_dir()}


def message_class(full_name: str) -> Any:
    """The generated class of an event; events live in `events.proto` of their package."""
    package, _, name = full_name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.events_pb2"), name)


def family_of(name: str) -> str:
    found = FAMILY.match(name)
    assert found
    return found[0]


def mentions(service: str, text: str) -> bool:
    """Whether a service's shipped code says a text."""
    return any(text in path.read_text() for path in (ROOT / "services" / service / "src").rglob("*.py"))


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_named_after_its_file_its_owner_and_its_message(name: str) -> None:
    topic = TOPICS[name]
    assert topic["topic"] == name
    assert FAMILY.match(name)
    assert re.fullmatch(r"|\.default\.(interactive|standard|batch)", FAMILY.sub("", name))
    domain, event = name.split(".")[1:3]
    assert topic["message"] == f"argosy.{domain}.v1." + "".join(part.title() for part in event.split("-"))
    assert topic["dead_letters"] == f"{name}.dlq"
    assert {topic["owner"], *topic["producers"], *topic["consumers"]} <= SERVICES


@pytest.mark.parametrize("name", TOPICS)
def test_a_topics_message_exists_starts_with_its_meta_and_its_examples_decode(name: str) -> None:
    message = message_class(TOPICS[name]["message"])
    first = message.DESCRIPTOR.fields_by_number[1]
    assert first.message_type.full_name == "argosy.common.v1.EventMeta"
    assert TOPICS[name]["examples"]
    for example in TOPICS[name]["examples"]:
        parsed = ParseDict(example, message())
        assert message.FromString(parsed.SerializeToString()) == parsed


@pytest.mark.parametrize("name", TOPICS)
def test_the_producers_and_consumers_of_a_topic_are_the_services_that_name_it(name: str) -> None:
    declared = {*TOPICS[name]["producers"], *TOPICS[name]["consumers"]}
    assert {service for service in SERVICES if mentions(service, family_of(name))} == declared


def test_every_topic_that_code_names_is_on_the_list() -> None:
    named = set()
    for service in SERVICES:
        for path in (ROOT / "services" / service / "src").rglob("*.py"):
            named |= set(re.findall(r"argosy\.[a-z]+\.[a-z]+(?:-[a-z]+)+\.v\d+", path.read_text()))
    assert named == set(map(family_of, TOPICS))
