"""What a consumer does around a rebalance of its group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import ConsumerRebalanceListener

from chassis.telemetry import logger

log = logger("chassis.kafka")


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Called by aiokafka around a rebalance, in which every partition is given up first."""

    def __init__(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """`prepare` is awaited before the partitions are given up."""
        self._prepare = prepare

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002 - all of them
        await self._prepare()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        log.info("partitions_assigned", partitions=len(assigned), topics=sorted({at.topic for at in assigned}))
