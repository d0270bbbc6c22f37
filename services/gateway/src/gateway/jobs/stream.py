"""Events of a job as server-sent events (WHATWG HTML, "Server-sent events")."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from chassis.errors import ArgosyError
from chassis.telemetry import logger

from gateway.jobs.schemas import JobRead, job_fields
from gateway.web.sse import encode_event

log = logger("gateway")

HEARTBEAT = b": heartbeat\n\n"
INTERRUPTED = b": interrupted; resume with Last-Event-ID\n\n"
RETRY = b"retry: 1000\n\n"  # milliseconds until an EventSource connects again


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A job's state. The last event of a final job has the result. Without an id it does not move the resume point."""

    event_id: str
    job: JobRead
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class Delta:
    """Chunks of the answer as a streamed completion has them. A higher `run` starts the answer anew."""

    event_id: str
    run: int
    chunks: Sequence[bytes]


JobEvent = StateChanged | Delta


def encode_job_event(event: JobEvent) -> bytes:
    """Encode an event; all chunks of a delta are one event, because they have one id."""
    if isinstance(event, Delta):
        data = orjson.dumps({"run": event.run, "chunks": [orjson.Fragment(chunk) for chunk in event.chunks]})
        return encode_event("delta", data, event.event_id)
    return encode_event("job", orjson.dumps(job_fields(event.job, event.result)), event.event_id)


async def job_events(
    read: Callable[[], Awaitable[JobEvent | None]], stopping: asyncio.Event, heartbeat_seconds: float
) -> AsyncGenerator[bytes, None]:
    """Encode events as they come, and a comment whenever none came for a while."""
    stopped = asyncio.ensure_future(stopping.wait())
    reading: asyncio.Future[JobEvent | None] | None = None
    try:
        yield RETRY
        while not stopping.is_set():
            reading = reading or asyncio.ensure_future(read())
            awaited: set[asyncio.Future[Any]] = {reading, stopped}
            done, _ = await asyncio.wait(awaited, timeout=heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED)
            if reading in done:
                event = reading.result()
                if event is None:
                    return
                reading = None
                yield encode_job_event(event)
            elif not done:
                yield HEARTBEAT
        yield INTERRUPTED
    except ArgosyError as error:
        log.info("job_events_interrupted", reason=error.reason)
        yield INTERRUPTED
    finally:
        stopped.cancel()
        if reading is not None:
            reading.cancel()
