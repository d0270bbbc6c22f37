"""`/v1/jobs`, and `Prefer: respond-async` on inference requests."""

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final

import orjson
from chassis.errors import InvalidRequest
from chassis.http import Receive, Scope, Send, read_body
from chassis.ids import new_id
from chassis.in_flight import InFlight, InFlightLimit, Overloaded, TooMuchInFlight
from chassis.tenancy import current_caller
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response, StreamingResponse

from gateway.inference.limits import InferenceLimits
from gateway.jobs.model import (
    LANES,
    RESPOND_ASYNC,
    JobEndpoint,
    JobFilter,
    JobState,
    JobSubmission,
    preferred_wait_seconds,
    prefers_async,
    read_idempotency_key,
)
from gateway.jobs.orchestrator_client import JobEnd, JobsClient, JobWatch
from gateway.jobs.schemas import JOB_PROPERTIES, JobCreate, JobRead, check_body, job_fields, read_submission
from gateway.jobs.stream import job_events
from gateway.web import sse
from gateway.web.dependencies import NEWEST_FIRST, PageQuery, PathId, provided
from gateway.web.middleware import Handler
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.web.response import ResponseWriter
from gateway.web.schemas import ID_PATTERN, ListResponse

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"])
ROUTE = AsgiRoute(
    "/v1/jobs",
    "Submit a job: a request that is accepted now and runs later.",
    "Jobs",
    JobCreate,
    properties=JOB_PROPERTIES,
    accepts="always",
)

PREFER, LANE = b"prefer", b"argosy-lane"
PREFERENCE_APPLIED = b"preference-applied"
IDEMPOTENCY_KEY = b"idempotency-key"
IDEMPOTENCY_UNSUPPORTED = (b"argosy-idempotency", b"unsupported")
RETRY_AFTER = (b"retry-after", b"1")
HEARTBEAT_SECONDS: Final = 15.0
"""Proxies close a connection on which nothing is sent for a minute, some for half of it."""


Jobs = Annotated[JobsClient, Depends(provided(JobsClient))]
ModelName = Annotated[str, Query(max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class SubmitJobs:
    """The handler of `POST /v1/jobs`; one per process."""

    def __init__(
        self, jobs: JobsClient, limits: InferenceLimits, bodies: RequestBodies, *, max_body_bytes: int
    ) -> None:
        self._jobs = jobs
        self._limits = limits
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        response.body = self._bodies.reserve(scope, self._max_body_bytes)
        body = await read_body(receive, self._max_body_bytes, response.body.grow_to)
        submission = read_submission(new_id("job_"), body, self._limits)
        job = await self._jobs.submit(replace(submission, idempotency_key=idempotency_key(scope)))
        await send_accepted(job, response)


class RespondAsync:
    """The handler of an inference endpoint that makes a job of a request with `Prefer: respond-async`."""

    def __init__(
        self,
        handler: Handler,
        endpoint: str,
        jobs: JobsClient,
        limits: InferenceLimits,
        bodies: RequestBodies,
        *,
        streams: "EventStreams",
        max_body_bytes: int,
    ) -> None:
        self._handler = handler
        self._streams = streams
        self._endpoint = endpoint
        self._jobs = jobs
        self._limits = limits
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes

    def __call__(self, scope: Scope, receive: Receive, response: ResponseWriter) -> Awaitable[None]:
        """Not `async`, which would put a second coroutine around that of every other request."""
        has_idempotency_key = False
        for name, value in scope["headers"]:
            if name == PREFER and prefers_async(value.decode("latin-1")):
                return self._submit(scope, receive, response)
            if name == IDEMPOTENCY_KEY:
                has_idempotency_key = True
        if has_idempotency_key:
            response.extra_headers = (*response.extra_headers, IDEMPOTENCY_UNSUPPORTED)
        return self._handler(scope, receive, response)

    async def _submit(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        lane = next((value.decode("latin-1").lower() for name, value in scope["headers"] if name == LANE), "")
        if lane and lane not in LANES:
            raise InvalidRequest(f"Argosy-Lane must be one of {', '.join(sorted(LANES))}.", param="argosy-lane")
        response.body = self._bodies.reserve(scope, self._max_body_bytes)
        body = await read_body(receive, self._max_body_bytes, response.body.grow_to)
        check_body(self._endpoint, body, self._limits)
        key = idempotency_key(scope)
        job = await self._jobs.submit(JobSubmission(new_id("job_"), self._endpoint, body, lane, idempotency_key=key))
        await self._answer(scope, job, response)

    async def _answer(self, scope: Scope, job: JobRead, response: ResponseWriter) -> None:
        """Send 200 with the result of a job that succeeds while the client wants to wait; otherwise 202.

        A wait follows the job as a stream of its events does, and takes one's place. Without a place there is no wait.
        """
        prefer = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == PREFER)
        seconds = min(preferred_wait_seconds(prefer), self._streams.max_wait_seconds)
        place = self._streams.find_place() if seconds else None
        if place is None:
            await send_accepted(job, response, (PREFERENCE_APPLIED, RESPOND_ASYNC.encode()))
            return
        response.release_body()
        applied = (PREFERENCE_APPLIED, f"{RESPOND_ASYNC}, wait={seconds}".encode())
        ended = await self._streams.wait(self._jobs.wait(job.id, seconds), place)
        if ended is not None and ended.job.state == "succeeded" and ended.result:
            await response.send_response(200, ended.result, (_location(job), applied))
            return
        await send_accepted(job if ended is None else ended.job, response, applied)


async def send_accepted(job: JobRead, response: ResponseWriter, *headers: tuple[bytes, bytes]) -> None:
    """Send 202 with the job and where it is."""
    await response.send_response(202, orjson.dumps(job_fields(job)), (_location(job), RETRY_AFTER, *headers))


def _location(job: JobRead) -> tuple[bytes, bytes]:
    return b"location", f"{router.prefix}/{job.id}".encode()


def idempotency_key(scope: Scope) -> str:
    """Return the client's key; empty without one. Raises InvalidRequest."""
    value = next((value for name, value in scope["headers"] if name == IDEMPOTENCY_KEY), None)
    return "" if value is None else read_idempotency_key(value.decode("latin-1"))


@router.get("", dependencies=[NEWEST_FIRST])
async def list_jobs(
    jobs: Jobs,
    page: PageQuery,
    state: JobState | None = None,
    endpoint: JobEndpoint | None = None,
    model: ModelName | None = None,
) -> ListResponse[JobRead]:
    """List jobs without their results, newest first."""
    return await jobs.list(page, JobFilter(state or "", endpoint or "", model or ""))


@router.get("/{job_id}", response_model=JobRead)
async def get_job(job_id: PathId, jobs: Jobs) -> Response:
    """Read a job with its result or its error."""
    job, result = await jobs.get(job_id)
    return Response(orjson.dumps(job_fields(job, result)), media_type="application/json")


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: PathId, jobs: Jobs) -> JobRead:
    """Cancel a job: at once when it waits, within a second when it runs. What was used until then is billed."""
    return await jobs.cancel(job_id)


class EventStream(StreamingResponse):
    """The events of a job. Ends the call behind it however it ends, and when the process stops: clients resume."""

    def __init__(self, watch: JobWatch, place: InFlight, stopping: asyncio.Event, heartbeat_seconds: float) -> None:
        self._watch = watch
        self._place = place
        super().__init__(
            job_events(watch.read, stopping, heartbeat_seconds),
            headers={name.decode(): value.decode() for name, value in sse.HEADERS},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watch.cancel()
            self._place.release()


class EventStreams:
    """The event streams and waits of this process, limited in number; a component whose `stop` ends them."""

    name = "job-events"

    def __init__(self, limit: InFlightLimit, max_wait: timedelta, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._limit = limit
        self.max_wait_seconds = int(max_wait.total_seconds())
        self._stopping = asyncio.Event()
        self._heartbeat_seconds = heartbeat_seconds

    async def start(self) -> None:
        """Do nothing: requests start the streams."""

    async def stop(self) -> None:
        self._stopping.set()

    def find_place(self) -> InFlight | None:
        """Return a place for the caller's wait; None when there are too many, or the process stops."""
        try:
            return None if self._stopping.is_set() else self._limit.reserve(current_caller().principal.key_id, 1)
        except (Overloaded, TooMuchInFlight):
            return None

    async def wait(self, end: Coroutine[Any, Any, JobEnd | None], place: InFlight) -> JobEnd | None:
        """Wait for the end of a job until the process stops; None when it has not ended. Releases the place."""
        waiting, stopped = asyncio.ensure_future(end), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            stopped.cancel()
            place.release()

    async def response(self, watch: JobWatch) -> Response:
        """Make the response of a watch. Raises its error, Overloaded, TooMuchInFlight."""
        place = self._limit.reserve(current_caller().principal.key_id, 1)
        try:
            if await watch.open():
                return EventStream(watch, place, self._stopping, self._heartbeat_seconds)
        except BaseException:
            watch.cancel()
            place.release()
            raise
        place.release()
        return Response(status_code=204)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Events `job`, `delta`.",
        },
        204: {"description": "The client has had the last event: an EventSource stops."},
    },
)
async def stream_job_events(
    job_id: PathId,
    jobs: Jobs,
    streams: Annotated[EventStreams, Depends(provided(EventStreams))],
    after: Annotated[
        str | None, Query(pattern=ID_PATTERN, description="As Last-Event-ID, for clients that cannot set headers.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="Resume after the event with this id; an EventSource sends it by itself.")
    ] = None,
) -> Response:
    """Follow a job to its end: its states, chunks of its answer, and last the finished job with its result.

    Works after its end, too. When the connection is lost, resume with the id of the last event.
    """
    # An EventSource that reconnects sends the header to the URL that it has, so the header is the later one.
    return await streams.response(jobs.watch(job_id, last_event_id or after or ""))
