"""The topics of a pool in Kafka."""

from pathlib import Path

from chassis.kafka import ensure_topics, for_pool, load_topics
from chassis.settings import KafkaConnection


class KafkaPoolTopics:
    """Implements `PoolTopics`, by the files of the topics of the default pool. They stay when a pool is removed."""

    def __init__(self, connection: KafkaConnection, folder: Path) -> None:
        self._connection = connection
        self._topics = load_topics(folder)

    async def ensure(self, name: str) -> None:
        await ensure_topics(self._connection, for_pool(self._topics, name))
