"""Kafka: transactional outbox and at-least-once consumers."""

from chassis.kafka.broker_security import client_options
from chassis.kafka.claiming import ClaimingConsumer
from chassis.kafka.consumer import Consumer
from chassis.kafka.outbox import Event, Outbox, OutboxRelay
from chassis.kafka.publisher import Publisher
from chassis.kafka.record import DEAD_LETTERS, Record, Undecodable
from chassis.kafka.topics import Topic, ensure_topics, for_pool, load_topics
from chassis.kafka.topics_check import TopicsCheck

__all__ = [
    "DEAD_LETTERS",
    "ClaimingConsumer",
    "Consumer",
    "Event",
    "Outbox",
    "OutboxRelay",
    "Publisher",
    "Record",
    "Topic",
    "TopicsCheck",
    "Undecodable",
    "client_options",
    "ensure_topics",
    "for_pool",
    "load_topics",
]
