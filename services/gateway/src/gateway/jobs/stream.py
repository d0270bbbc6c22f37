"""Events of a job as server-sent events (WHATWG HTML, "Server-sent events")."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.jobs.schemas import JobRead, job_fields
from gateway.web.sse import encode_event

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
