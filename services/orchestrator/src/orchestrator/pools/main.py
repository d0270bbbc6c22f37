"""Wires pools that are made at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chassis.aio import periodic
from chassis.errors import ArgosyError
from chassis.grpc import Registration
from chassis.lifecycle import Component, Loop, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import KafkaConnection
from chassis.telemetry import logger

from orchestrator.pools.grpc import PoolServicer, registration
from orchestrator.pools.kafka import KafkaPoolTopics
from orchestrator.pools.kubernetes import KubernetesPools
from orchestrator.pools.manage import ManagePools
from orchestrator.pools.postgres import PostgresPoolStore
from orchestrator.pools.reconcile import Reconciler
from orchestrator.pools.settings import PoolsSection

log = logger("orchestrator.pools")


class Pools(NamedTuple):
    """What pools add to the service."""

    registration: Registration
    components: Sequence[Component]


async def build_pools(
    section: PoolsSection, kafka: KafkaConnection, service: ServiceBuilder, database: Database
) -> Pools:
    """Without a template there is no cluster: the gRPC service says so.

    Raises OSError where a template is named, and the pod has no token of a service account.
    """
    if section.template is None:
        return Pools(registration(PoolServicer(None)), ())
    store = PostgresPoolStore(database)
    cluster = await service.open(KubernetesPools(section.api_server, section.service_account, section.template))
    topics = KafkaPoolTopics(kafka, section.topics)
    manage = ManagePools(store=store, cluster=cluster, topics=topics, quota=section.quota())
    reconciler = Reconciler(store=store, cluster=cluster, on_failed=_log_failure)
    loop = Loop("pools", periodic(section.interval, reconciler.run_once, "pools"))
    return Pools(registration(PoolServicer(manage)), (loop,))


def _log_failure(name: str, error: ArgosyError) -> None:
    log.error("pool_not_applied", pool=name, reason=error.reason, message=error.message)
