"""Settings of Kafka for tests."""

from __future__ import annotations

from chassis.settings import KafkaSection

SIGNING_KEYS = "tests-1:a-key-of-events-for-tests-and-nothing-else"


def a_kafka_section(bootstrap: str, group: str = "tests", signing_keys: str = SIGNING_KEYS) -> KafkaSection:
    """Make the section of a service that shares its signing keys with all other services of the tests."""
    return KafkaSection.model_validate({"bootstrap": bootstrap, "group": group, "signing_keys": signing_keys})
