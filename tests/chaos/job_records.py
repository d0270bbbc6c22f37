"""Records on the topics of the drills' pool: some that no worker can read, and the dead letters."""

import asyncio

import psutil
from aiokafka import AIOKafkaConsumer
from argosy_dev.fleet.paths import read_pairs
from chassis.kafka import Publisher, Record
from chassis.kafka.record import ERROR_HEADER
from chassis.settings import KafkaSection

from tests.fleet.client import Fleet
from tests.fleet.environment import DRILL_POOL, PATHS

TOPIC = f"argosy.orchestration.job-dispatched.v1.{DRILL_POOL}.interactive"


def _servers() -> str:
    return read_pairs(PATHS.env)["ARGOSY_KAFKA_BOOTSTRAP"]


async def publish_undecodable(count: int) -> None:
    """Publish records that are no dispatches: by turns signed as the orchestrator signs, and not signed."""
    keys = psutil.Process(Fleet.pid_of("orchestrator")).environ()["ORCHESTRATOR_KAFKA__SIGNING_KEYS"]
    section = KafkaSection(bootstrap=_servers(), group="drills", signing_keys=keys)
    for sign in (True, False):
        numbers = range(0 if sign else 1, count, 2)
        async with Publisher(section, sign=sign) as publisher:
            records = [Record(TOPIC, str(number).encode(), b"\xff is no dispatch", {}) for number in numbers]
            async with asyncio.timeout(60):
                while records:
                    failures = await publisher.publish_all(records)
                    records = [record for record, failure in zip(records, failures, strict=True) if failure]


async def dead_letters() -> list[str]:
    """The reasons of all dead letters, in their order; empty where a letter has none."""
    consumer = AIOKafkaConsumer(
        f"{TOPIC}.dlq", bootstrap_servers=_servers(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    found = []
    try:
        partitions = consumer.assignment()  # without a group: all of them
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [dict(record.headers).get(ERROR_HEADER, b"").decode() for record in records]
    finally:
        await consumer.stop()
    return found
