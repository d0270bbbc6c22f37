"""The log of job events in Redis: a stream per job, to which workers append deltas and the orchestrator states.

Fields of an entry: `job`, a `Job` message without its result, or `delta`, a `JobDelta`.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import orjson
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError, Unavailable
from chassis.lifecycle import Loop
from chassis.redis import MultiplexedRedis
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from orchestrator.jobs.events.model import Delta, JobEvent, StateChanged
from orchestrator.jobs.events.protos import proto_to_job
from orchestrator.jobs.model import Job, JobKey, RunRef
from orchestrator.jobs.protos import job_to_proto
from orchestrator.metrics import JOB_EVENTS_LOST

CANCEL_CHANNEL: Final = "argosy:jobs:cancel"
MAX_EVENTS: Final = 20_000  # of one job, about
READ_EVENTS: Final = 100  # in one read
FINAL_TTL_SECONDS: Final = 300
FIRST: Final = "0-0"
BLOCK_MILLISECONDS: Final = 100
"""A stream that is followed anew is waited for after this time at most."""
READ_TIMEOUT_SECONDS: Final = 2.0
CONNECT_TIMEOUT_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 2.0

log = logger("orchestrator.jobs")


def events_key(key: JobKey) -> str:
    return f"argosy:jobs:events:{key.tenant_id}:{key.job_id}"


class RedisJobSignals:
    """Implements `JobSignals`. Commands are sent without waiting for Redis; what is lost is counted."""

    def __init__(self, redis: MultiplexedRedis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_seconds = int(ttl.total_seconds())

    def changed(self, job: Job) -> None:
        """Append a state. Jobs of batches have too many for too few watchers; they are followed by polling."""
        if job.batch_id is not None:
            return
        message = job_to_proto(job)
        message.ClearField("result")
        key = events_key(JobKey(job.tenant_id, job.job_id))
        self._send("XADD", key, "MAXLEN", "~", MAX_EVENTS, "*", "job", message.SerializeToString())
        # After the end the store has all that a client may have missed.
        self._send("EXPIRE", key, min(FINAL_TTL_SECONDS, self._ttl_seconds) if job.is_final else self._ttl_seconds)

    def cancel(self, run: RunRef) -> None:
        fields = {"tenant_id": run.tenant_id, "job_id": run.job_id, "epoch": run.epoch}
        self._send("PUBLISH", CANCEL_CHANNEL, orjson.dumps(fields))

    def _send(self, *command: Any) -> None:
        try:
            reply = self._redis.send(*command)
        except ArgosyError:
            JOB_EVENTS_LOST.inc()
            return
        reply.add_done_callback(_count_if_lost)


def _count_if_lost(reply: asyncio.Future[Any]) -> None:
    if reply.cancelled() or reply.exception() is not None:
        JOB_EVENTS_LOST.inc()


class RedisJobEventLog:
    """Implements `JobEventLog`. `arrivals` is a component: one connection waits for the streams of all watchers."""

    def __init__(self, redis: MultiplexedRedis, url: str) -> None:
        self._redis = redis
        self.arrivals = StreamArrivals(url)

    async def read(self, key: JobKey, after: str) -> Sequence[JobEvent]:
        reply = await self._call("XREAD", "COUNT", READ_EVENTS, "STREAMS", events_key(key), after or FIRST)
        entries = reply[0][1] if reply else ()
        return [event for entry in entries if (event := entry_to_event(*entry)) is not None]

    async def contains(self, key: JobKey, event_id: str) -> bool:
        return bool(await self._call("XRANGE", events_key(key), event_id, event_id))

    @contextmanager
    def follow(self, key: JobKey, after: str) -> Iterator["StreamFollower"]:
        with self.arrivals.follow(events_key(key), after or FIRST) as follower:
            yield follower

    async def _call(self, *command: Any) -> Any:
        try:
            return await self._redis.send(*command)
        except RedisError as error:
            raise Unavailable(f"redis refuses to read events: {error}") from error


def entry_to_event(entry_id: bytes, fields: Sequence[bytes]) -> JobEvent | None:
    """Read an entry; None for one of a newer version."""
    event_id = entry_id.decode()
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    if b"delta" in values:
        delta = pb.JobDelta.FromString(values[b"delta"])
        return Delta(event_id, delta.run, list(delta.payloads))
    try:
        return StateChanged(event_id, proto_to_job(pb.Job.FromString(values[b"job"])))
    except KeyError:
        return None


class StreamFollower:
    """Implements `Arrivals` for one watcher of a stream."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        await wait_or_stop(self.arrived, seconds)
        self.arrived.clear()


class StreamArrivals(Loop):
    """Waits for entries of many streams on one connection, and wakes those who follow them."""

    def __init__(self, url: str) -> None:
        super().__init__("job-event-arrivals", self._wait_for_entries)
        self._url = url
        self._followers: dict[str, set[StreamFollower]] = {}
        self._last_ids: dict[str, str] = {}
        self._followed = asyncio.Event()
        self._failures = RateLimitedLog(log)

    @contextmanager
    def follow(self, stream: str, after: str) -> Iterator[StreamFollower]:
        """Be woken by entries after an id."""
        follower = StreamFollower()
        self._followers.setdefault(stream, set()).add(follower)
        # Of several followers the first counts: entries that it has not seen wake the others for nothing, once.
        self._last_ids.setdefault(stream, after)
        self._followed.set()
        try:
            yield follower
        finally:
            self._followers[stream].discard(follower)
            if not self._followers[stream]:
                del self._followers[stream], self._last_ids[stream]

    async def _wait_for_entries(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=0.1, max_seconds=MAX_RETRY_SECONDS)
        while not stop.is_set():
            try:
                async with self._client() as client:
                    await self._listen(client, stop, backoff)
            except Exception as error:  # noqa: BLE001 - watchers poll until Redis is back
                self._failures.warning("job_events_unavailable", key=type(error).__name__, error=str(error))
                await wait_or_stop(stop, backoff.next())

    def _client(self) -> Client:
        return Client.from_url(
            self._url,
            socket_timeout=READ_TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )

    async def _listen(self, client: Client, stop: asyncio.Event, backoff: Backoff) -> None:
        while not stop.is_set():
            if not self._last_ids:
                self._followed.clear()
                await wait_or_stop(self._followed, BLOCK_MILLISECONDS / 1000)
                continue
            streams: Any = dict(self._last_ids)
            self._wake(await client.xread(streams, count=READ_EVENTS, block=BLOCK_MILLISECONDS))
            backoff.reset()

    def _wake(self, reply: Any) -> None:
        found: Mapping[bytes, Any] = dict(reply or ())
        for name, entries in found.items():
            stream = name.decode()
            if stream in self._last_ids:
                self._last_ids[stream] = entries[-1][0].decode()
                for follower in self._followers[stream]:
                    follower.arrived.set()
