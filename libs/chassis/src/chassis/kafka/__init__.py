"""Kafka: transactional outbox and at-least-once consumers."""

from chassis.kafka.consumer import Consumer
from chassis.kafka.outbox import Event, Outbox, OutboxRelay
from chassis.kafka.publisher import Publisher
from chassis.kafka.record import Record, Undecodable
from chassis.kafka.topics import Topic, ensure_topics, load_topics

__all__ = [
    "Consumer",
    "Event",
    "Outbox",
    "OutboxRelay",
    "Publisher",
    "Record",
    "Topic",
    "Undecodable",
    "ensure_topics",
    "load_topics",
]
