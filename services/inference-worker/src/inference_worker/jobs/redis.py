"""Live deltas of answers and cancellations of jobs, by Redis. Jobs run without it: both are only faster with it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import orjson
from argosy.orchestration.v1 import jobs_pb2
from chassis.errors import ArgosyError
from chassis.redis import MultiplexedRedis

from inference_worker.jobs.model import Lane, Offer, RunRef
from inference_worker.metrics import JOB_DELTAS_DROPPED

CANCEL_CHANNEL: Final = "argosy:jobs:cancel"
OFFERS_CHANNEL: Final = "argosy:jobs:offers:"
"""With the name of a pool."""
FLUSH_SECONDS: Final = 0.02
COMMAND_SECONDS: Final = 2.0
"""What Redis has for a command. Nothing waits for it, and one that is too late ends the deltas of its run."""
MAX_EVENTS: Final = 20_000
"""Events of one job that are kept, about: each has what came within the flush interval."""
EXPIRE_INTERVAL_SECONDS: Final = 60.0


def events_key(run: RunRef) -> str:
    """Return the stream of a job's events, which the orchestrator reads and writes, too."""
    return f"argosy:jobs:events:{run.tenant_id}:{run.job_id}"


class RedisDeltas:
    """Implements `Deltas`: appends to the stream of each job what came within a short time, in one command.

    Nothing here waits for Redis. When a command fails, the rest of that run is dropped: a text with a hole in it would
    be worse than one that comes late, whole, with the job's end.
    """

    def __init__(self, redis: MultiplexedRedis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_seconds = int(ttl.total_seconds())
        self._buffered: dict[RunRef, list[bytes]] = {}
        self._expire_at: dict[RunRef, float] = {}
        self._live: set[RunRef] = set()
        self._broken: set[RunRef] = set()
        self._timer: asyncio.TimerHandle | None = None

    def append(self, run: RunRef, payloads: Sequence[bytes]) -> None:
        if run in self._broken:
            JOB_DELTAS_DROPPED.inc(len(payloads))
            return
        self._live.add(run)
        self._buffered.setdefault(run, []).extend(payloads)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_all)

    def end(self, run: RunRef) -> None:
        if payloads := self._buffered.pop(run, None):
            self._write(run, payloads)
        self._expire_at.pop(run, None)
        self._live.discard(run)
        self._broken.discard(run)

    def _flush_all(self) -> None:
        self._timer = None
        buffered, self._buffered = self._buffered, {}
        for run, payloads in buffered.items():
            self._write(run, payloads)

    def _write(self, run: RunRef, payloads: list[bytes]) -> None:
        delta = jobs_pb2.JobDelta(run=run.epoch, payloads=payloads).SerializeToString()
        key, now = events_key(run), asyncio.get_running_loop().time()
        self._send(run, len(payloads), "XADD", key, "MAXLEN", "~", MAX_EVENTS, "*", "delta", delta)
        if now >= self._expire_at.get(run, now):
            self._expire_at[run] = now + EXPIRE_INTERVAL_SECONDS
            self._send(run, 0, "EXPIRE", key, self._ttl_seconds)

    def _send(self, run: RunRef, payloads: int, *command: Any) -> None:
        try:
            reply = self._redis.send(*command)
        except ArgosyError:
            self._drop(run, payloads)
            return

        def check(reply: asyncio.Future[Any]) -> None:
            if reply.cancelled() or reply.exception() is not None:
                self._drop(run, payloads)

        reply.add_done_callback(check)

    def _drop(self, run: RunRef, payloads: int) -> None:
        if payloads:
            JOB_DELTAS_DROPPED.inc(payloads)
            if run in self._live:
                self._broken.add(run)


class NoDeltas:
    """Implements `Deltas` without Redis."""

    def append(self, run: RunRef, payloads: Sequence[bytes]) -> None:
        pass

    def end(self, run: RunRef) -> None:
        pass


def cancel_handler(cancel: Callable[[RunRef], None]) -> Callable[[bytes], Awaitable[None]]:
    """Make the handler of the channel's messages, which are for all workers: each ignores runs that it has not."""

    async def handle(message: bytes) -> None:
        fields = orjson.loads(message)
        cancel(RunRef(fields["tenant_id"], fields["job_id"], fields["epoch"]))

    return handle


def offers_handler(worker_id: str, take: Callable[[Sequence[Offer]], None]) -> Callable[[bytes], Awaitable[None]]:
    """Make the handler of the channel's messages, which are for one worker of the pool each."""

    async def handle(message: bytes) -> None:
        fields = orjson.loads(message)
        if fields["worker"] == worker_id:
            named = fields["offers"]
            take([Offer(RunRef(tenant, job, epoch), Lane(lane)) for tenant, job, epoch, lane in named])

    return handle
