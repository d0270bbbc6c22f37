"""Redis tells replicas of workers that have ended, and workers of jobs that are dispatched meanwhile.

Workers read `OFFERS_CHANNEL` with the name of their pool: `{"worker": …, "offers": [[tenant, job, epoch, lane], …]}`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from chassis.errors import ArgosyError
from chassis.redis import MultiplexedRedis

from orchestrator.jobs.rounds import Offer
from orchestrator.metrics import JOB_EVENTS_LOST

ENDED_CHANNEL: Final = "argosy:jobs:workers-ended"
OFFERS_CHANNEL: Final = "argosy:jobs:offers:"


class RedisPushSignals:
    """Implements `PushSignals`. Commands are sent without waiting for Redis; what is lost is counted."""

    def __init__(self, redis: MultiplexedRedis, replica: str) -> None:
        """`replica` is unique: a replica ignores its own messages."""
        self._redis = redis
        self._replica = replica

    def ended(self, worker_id: str, pool: str) -> None:
        self._publish(ENDED_CHANNEL, {"by": self._replica, "worker": worker_id, "pool": pool})

    def offer(self, worker_id: str, pool: str, offers: Sequence[Offer]) -> None:
        named = [[*one.dispatch, one.lane.value] for one in offers]
        self._publish(OFFERS_CHANNEL + pool, {"worker": worker_id, "offers": named})

    def ended_handler(self, ended: Callable[[str, str], None]) -> Callable[[bytes], Awaitable[None]]:
        """Make the handler of `ENDED_CHANNEL`."""

        async def handle(message: bytes) -> None:
            fields = orjson.loads(message)
            if fields["by"] != self._replica:
                ended(fields["worker"], fields["pool"])

        return handle

    def _publish(self, channel: str, fields: dict[str, Any]) -> None:
        try:
            reply = self._redis.send("PUBLISH", channel, orjson.dumps(fields))
        except ArgosyError:
            JOB_EVENTS_LOST.inc()
            return
        reply.add_done_callback(_count_if_lost)


def _count_if_lost(reply: asyncio.Future[Any]) -> None:
    if reply.cancelled() or reply.exception() is not None:
        JOB_EVENTS_LOST.inc()
