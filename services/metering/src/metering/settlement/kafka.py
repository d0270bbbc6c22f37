"""Whether metering has settled all usage events that are in Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from chassis.errors import Unavailable

POLL_SECONDS = 0.1
CLOSE_TIMEOUT_SECONDS = 2.0
REQUEST_TIMEOUT_MS = 5_000


class KafkaUsageEvents:
    """Compares what the consumer group has committed with the ends of the topic's partitions.

    It opens a connection for each question: questions are rare, and an old connection may show old offsets, or hang.
    `timeout` is the time for the whole answer; events that were published before it began are waited for as long.
    """

    def __init__(self, bootstrap: str, group: str, topic: str, timeout: timedelta) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topic = topic
        self._timeout_seconds = timeout.total_seconds()

    async def all_settled(self) -> bool:
        """Whether the group has committed all records that were in the topic when this was called.

        Raises `Unavailable` when Kafka does not answer, or does not know the topic.
        """
        ends: dict[TopicPartition, int] | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds), self._client() as client:
                ends = await self._ends(client)
                while not await self._committed(client, ends):  # noqa: ASYNC110 - Kafka has no event for it
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            if ends is not None:
                return False
            raise Unavailable("kafka does not answer") from error
        except (KafkaError, OSError) as error:
            raise Unavailable("kafka does not answer") from error
        return True

    async def _ends(self, client: Any) -> dict[TopicPartition, int]:
        """Return the end of each partition that has records."""
        # aiokafka (0.14) has no public way to read a topic's partitions without subscribing, which joins the group.
        cluster = await client._client.fetch_all_metadata()
        partitions = [TopicPartition(self._topic, number) for number in cluster.partitions_for_topic(self._topic) or ()]
        if not partitions:
            raise Unavailable(f"kafka does not know the topic {self._topic}")
        starts, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
        return {partition: end for partition, end in ends.items() if end > starts[partition]}

    async def _committed(self, client: Any, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            offset = await client.committed(partition)
            if offset is None or offset < end:
                return False
        return True

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        # It subscribes to nothing, so it does not join the group.
        client = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await client.start()
            yield client
        finally:
            await _close(client)


async def _close(client: Any) -> None:
    """Close within a time limit, also while the caller's has passed."""
    closing = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_SECONDS)
    if not done:
        closing.cancel()
        # aiokafka has no public way to close without waiting for the broker.
        await client._client.close()
    elif not closing.cancelled():
        closing.exception()
