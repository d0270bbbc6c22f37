"""Wires webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from ssl import create_default_context
from typing import NamedTuple

from chassis.aio import periodic
from chassis.grpc import Registration
from chassis.kafka import DEAD_LETTERS, Consumer
from chassis.lifecycle import Component, Loop, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import KafkaSection, PostgresSection

from orchestrator.webhooks.cipher import AesSecretCipher
from orchestrator.webhooks.consumer import SOURCES, WebhookEventConsumer
from orchestrator.webhooks.deliver import Deliver
from orchestrator.webhooks.delivery_postgres import PostgresDeliveryQueue
from orchestrator.webhooks.grpc import WebhookServicer, registration
from orchestrator.webhooks.manage import ManageEndpoints
from orchestrator.webhooks.postgres import PostgresDeliveries, PostgresWebhooks
from orchestrator.webhooks.schedule import DeliveryLoop, expire_deliveries
from orchestrator.webhooks.secrets_postgres import PostgresSecrets
from orchestrator.webhooks.sender import HttpSender, SystemResolver
from orchestrator.webhooks.settings import WebhooksSection
from orchestrator.webhooks.slots import Slots

# From the end of an attempt's timeout to that of its lease: for recording it on a busy database.
LEASE_MARGIN = timedelta(seconds=20)
EXPIRY_INTERVAL = timedelta(minutes=1)


class Webhooks(NamedTuple):
    """What webhooks add to the service: a gRPC service, and components."""

    registration: Registration
    components: Sequence[Component]


async def build_webhooks(
    section: WebhooksSection, kafka: KafkaSection, service: ServiceBuilder, database: Database
) -> Webhooks:
    """Open what webhooks need, and make their components. Consumers have a group of their own, `<group>.webhooks`."""
    policy = section.target_policy()
    cipher = _cipher(section)
    resolver = await service.open(SystemResolver())
    ssl = create_default_context(cafile=section.ca_file)
    sender = await service.open(HttpSender(resolver, policy, section.timeout, ssl))
    queue = PostgresDeliveryQueue(
        database, cipher, disable_after=section.disable_after, min_failures=section.disable_min_failures
    )
    loop = DeliveryLoop(
        queue,
        Deliver(queue=queue, sender=sender, schedule=section.schedule),
        Slots(section.in_flight, section.in_flight_per_endpoint),
        lease=section.timeout + LEASE_MARGIN,
        poll_interval=section.poll_interval,
    )
    deliveries = PostgresDeliveries(database)
    manage = ManageEndpoints(
        endpoints=PostgresWebhooks(database, cipher),
        deliveries=deliveries,
        resolver=resolver,
        policy=policy,
        clock=service.clock,
        max_endpoints=section.max_endpoints,
    )
    handle = WebhookEventConsumer(deliveries, loop.wake)
    own_group = kafka.model_copy(update={"group": f"{kafka.group}.webhooks"})
    expire = partial(expire_deliveries, queue, section.retention)
    return Webhooks(
        registration(WebhookServicer(manage, loop)),
        [
            service.topics(kafka, *(name for topic in SOURCES for name in (topic, f"{topic}{DEAD_LETTERS}"))),
            Loop("webhook-deliveries", loop.run),
            Loop("webhook-expiry", periodic(EXPIRY_INTERVAL, expire, "webhook-expiry")),
            *(Consumer(own_group, topic, handle_many=handle) for topic in SOURCES),
        ],
    )


async def reseal_secrets(postgres: PostgresSection, section: WebhooksSection) -> str:
    """Encrypt the secrets of endpoints with the first key, and return what to print."""
    async with Database(postgres.model_copy(update={"pool_size": 1}), "orchestrator") as database:
        done = await PostgresSecrets(database, _cipher(section)).reseal()
    return f"encrypted {done} secrets of webhook endpoints with the first key; the others were\n"


def _cipher(section: WebhooksSection) -> AesSecretCipher:
    return AesSecretCipher([key.get_secret_value() for key in section.secret_keys])
