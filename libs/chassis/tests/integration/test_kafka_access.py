"""Kafka that wants TLS and a user: publishing and consuming, and a sentence for each setting that is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.kafka import Consumer, Publisher, Record, Topic, TopicsCheck, ensure_topics
from chassis.lifecycle.components import readiness
from chassis.settings import KafkaSection
from chassis.testing import free_port
from chassis.testing.kafka import SIGNING_KEYS

from libs.chassis.tests.certificates import Authority
from libs.chassis.tests.own_kafka import PASSWORD, USER, kafka_with_sasl

TOPIC = Topic("argosy.test.access", "", "tests", 1, retention_hours=1, dead_letters="argosy.test.access.dead")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def port(folder: Path, authority: Authority) -> Iterator[int]:
    with kafka_with_sasl(folder, authority) as port:
        yield port


@pytest.fixture
def settings(port: int, authority: Authority) -> dict[str, Any]:
    return {
        "bootstrap": f"127.0.0.1:{port}",
        "group": "tests",
        "signing_keys": SIGNING_KEYS,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ca_file": str(authority.file),
    }


def section(settings: dict[str, Any], **changed: Any) -> KafkaSection:
    """Make the section; a setting that is None is left out."""
    values = {name: value for name, value in (settings | changed).items() if value is not None}
    return KafkaSection.model_validate(values)


async def state(section: KafkaSection) -> str:
    check = TopicsCheck(section, [TOPIC.name])
    await check.start()
    try:
        async with asyncio.timeout(120):
            while "not been looked up" in (state := (await readiness([check]))["kafka topics"]):
                await asyncio.sleep(0.02)
    finally:
        await check.stop()
    return state


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_topics_are_made_and_records_published_and_consumed(settings: dict[str, Any], mechanism: str) -> None:
    kafka = section(settings, sasl_mechanism=mechanism, group=f"tests-{mechanism}")
    await ensure_topics(kafka, [TOPIC])
    assert await state(kafka) == "ok"
    handled = asyncio.Queue[bytes]()

    async def handle(record: Record) -> None:
        await handled.put(record.value)

    consumer = Consumer(kafka, TOPIC.name, handle)
    await consumer.start()
    async with Publisher(kafka) as publisher, asyncio.timeout(120):
        await publisher.publish(TOPIC.name, b"key", mechanism.encode())
        while await handled.get() != mechanism.encode():
            pass
    await consumer.stop()


WRONG = {
    "password": ({"sasl_password": "another password"}, "check KAFKA__SASL_USERNAME and KAFKA__SASL_PASSWORD"),
    "user": ({"sasl_username": "none"}, "check KAFKA__SASL_USERNAME and KAFKA__SASL_PASSWORD"),
    "password by PLAIN": ({"sasl_mechanism": "PLAIN", "sasl_password": "another"}, "KAFKA__SASL_PASSWORD"),
    "mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, "do not offer SCRAM-SHA-256: set another KAFKA__SASL_MECHANISM"),
    "host": ({"host": "localhost"}, "certificate of localhost"),
    "authority": ({"authority": "another"}, "is not trusted"),
    "no authority": ({"ca_file": None}, "check KAFKA__CA_FILE"),
}


@pytest.mark.parametrize(("changed", "sentence"), WRONG.values(), ids=WRONG)
async def test_a_setting_that_is_wrong_is_named_by_the_check_and_by_provisioning(
    settings: dict[str, Any], changed: dict[str, Any], sentence: str, port: int, tmp_path: Path
) -> None:
    changed = dict(changed)
    if changed.pop("authority", None):
        changed["ca_file"] = str(Authority(tmp_path, "another").file)
    if host := changed.pop("host", None):
        changed["bootstrap"] = f"{host}:{port}"
    wrong = section(settings, **changed)

    found = await state(wrong)
    assert sentence in found
    assert PASSWORD not in found
    with pytest.raises(Unavailable) as raised:
        await ensure_topics(wrong, [TOPIC])
    assert sentence in str(raised.value)


async def test_a_listener_that_wants_a_user_is_named_to_a_client_without(settings: dict[str, Any]) -> None:
    plain = section(
        {name: settings[name] for name in ("bootstrap", "group", "signing_keys")}, security_protocol="PLAINTEXT"
    )
    assert "KAFKA__SECURITY_PROTOCOL" in await state(plain)


async def test_brokers_that_do_not_answer_do_not_keep_a_service_from_being_ready(settings: dict[str, Any]) -> None:
    assert await state(section(settings, bootstrap=f"127.0.0.1:{free_port()}")) == "ok"
