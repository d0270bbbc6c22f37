"""`GET /v1/jobs/{id}/events`: server-sent events of a job, resumable."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.errors import Kind, RemoteError, Unavailable
from gateway.settings import InFlightSection

from services.gateway.tests.fakes.gateway import GatewayFixture, RawRequest, run_gateway
from services.gateway.tests.fakes.jobs import EVENT_ID_UNKNOWN, a_job, delta_event, state_event

PATH = "/v1/jobs/job_1/events"
RESULT = b'{"id":"chatcmpl-1","n":1.50}'


@pytest.fixture(autouse=True)
def job(gateway: GatewayFixture) -> pb.Job:
    """A running job of the tenant demo."""
    return gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_RUNNING))


def finished() -> pb.WatchJobResponse:
    return state_event("final", a_job("job_1", pb.JOB_STATE_SUCCEEDED, result=RESULT))


def parse(stream: bytes) -> list[dict[str, Any]]:
    """The events as WHATWG's algorithm reads them, with the last event id at each; comments are left out."""
    events: list[dict[str, Any]] = []
    last_id = ""
    for block in stream.decode().split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        last_id = fields.get("id", [last_id])[-1]
        if "data" in fields:
            events.append({"id": last_id, "event": fields["event"][-1], "data": json.loads("\n".join(fields["data"]))})
    return events


async def test_events_have_their_id_type_and_data(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.jobs.events = [
        state_event("1-0", a_job("job_1", pb.JOB_STATE_RUNNING)),
        delta_event("2-0", 3, b'{"choices":[{"delta":{"content":"a"}}]}', b'{"choices":[{"delta":{"content":"b"}}]}'),
        finished(),
    ]

    response = await demo.get(PATH)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    running, delta, final = parse(response.content)
    assert (running["id"], running["event"], running["data"]["state"]) == ("1-0", "job", "running")
    assert (delta["id"], delta["event"], delta["data"]["run"]) == ("2-0", "delta", 3)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in delta["data"]["chunks"]] == ["a", "b"]
    assert (final["id"], final["data"]["state"], final["data"]["result"]["id"]) == ("final", "succeeded", "chatcmpl-1")
    assert RESULT in response.content


async def test_a_chunk_with_line_breaks_is_one_event(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.jobs.events = [delta_event("2-0", 3, b'{\r\n "a": 1,\r "b":\n2}'), finished()]

    delta, _ = parse((await demo.get(PATH)).content)

    assert delta["data"]["chunks"] == [{"a": 1, "b": 2}]


async def test_a_state_without_an_id_does_not_move_the_resume_point(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.events = [delta_event("2-0", 3, b"{}"), state_event("", a_job("job_1", pb.JOB_STATE_QUEUED))]

    assert [event["id"] for event in parse((await demo.get(PATH)).content)] == ["2-0", "2-0"]


@pytest.mark.parametrize(
    ("headers", "params", "expected"),
    [
        ({}, {}, ""),
        ({"last-event-id": "7-0"}, {}, "7-0"),
        ({}, {"after": "6-0"}, "6-0"),
        # An EventSource keeps its URL and adds the header.
        ({"last-event-id": "7-0"}, {"after": "6-0"}, "7-0"),
        ({"last-event-id": ""}, {"after": "6-0"}, "6-0"),
        ({"last-event-id": "n\xe9\xff"}, {}, "n\xe9\xff"),
    ],
)
async def test_a_client_resumes_after_the_event_that_it_names(
    gateway: GatewayFixture,
    demo: httpx.AsyncClient,
    headers: dict[str, str],
    params: dict[str, str],
    expected: str,
) -> None:
    gateway.jobs.events = [finished()]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    await demo.get(PATH, headers=raw, params=params)

    (watch,) = gateway.jobs.watches
    assert (watch.job_id, watch.after_event_id) == ("job_1", expected)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EVENT_ID_UNKNOWN, 410),
        (Unavailable("postgres does not answer"), 503),
        (RemoteError(Kind.DENIED, "X", "x"), 403),
    ],
)
async def test_an_error_before_the_first_event_has_a_status(
    gateway: GatewayFixture, demo: httpx.AsyncClient, error: RemoteError, status: int
) -> None:
    gateway.jobs.events = [error]

    response = await demo.get(PATH, headers={"last-event-id": "9-9"})

    assert (response.status_code, response.json()["error"]["code"]) == (status, error.code)


async def test_a_client_that_has_the_last_event_is_told_to_stop(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.events = []

    response = await demo.get(PATH, headers={"last-event-id": "final"})

    # An EventSource reconnects after every other end.
    assert (response.status_code, response.content) == (204, b"")


async def test_an_interruption_ends_the_stream_so_that_the_client_resumes(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.events = [delta_event("2-0", 3, b"{}"), Unavailable("the orchestrator stops")]

    response = await demo.get(PATH)

    assert response.status_code == 200
    assert [event["id"] for event in parse(response.content)] == ["2-0"]
    assert response.content.endswith(b": interrupted; resume with Last-Event-ID\n\n")


@pytest.fixture
async def beating() -> AsyncIterator[GatewayFixture]:
    """A gateway whose heartbeats come fast, with a job on which nothing happens."""
    async with run_gateway(heartbeat_seconds=0.01) as gateway:
        gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_RUNNING))
        gateway.jobs.events = [asyncio.Event(), finished()]
        yield gateway


async def next_body(request: RawRequest) -> bytes:
    while True:
        message = await request.next_message()
        if message["type"] == "http.response.body" and message.get("body"):
            return bytes(message["body"])


async def test_while_nothing_happens_comments_keep_the_connection_open(beating: GatewayFixture) -> None:
    request = RawRequest(beating, PATH, b"", method="GET")

    assert await next_body(request) == b"retry: 1000\n\n"
    assert [await next_body(request) for _ in range(3)] == [b": heartbeat\n\n"] * 3
    (nothing, _) = beating.jobs.events
    assert isinstance(nothing, asyncio.Event)
    nothing.set()
    rest = await request.remaining_body()
    assert parse(rest)[-1]["id"] == "final"


async def test_a_client_that_disconnects_ends_the_call_behind_it(beating: GatewayFixture) -> None:
    request = RawRequest(beating, PATH, b"", method="GET")
    await next_body(request)

    request.disconnect()
    await request.task

    async with asyncio.timeout(30):
        while not beating.jobs.ended_watches:
            await asyncio.sleep(0.01)


async def test_a_gateway_that_stops_ends_its_streams(beating: GatewayFixture) -> None:
    request = RawRequest(beating, PATH, b"", method="GET")
    await next_body(request)

    await beating.event_streams.stop()

    assert (await request.remaining_body()).endswith(b": interrupted; resume with Last-Event-ID\n\n")


async def test_head_does_not_follow_the_job(beating: GatewayFixture) -> None:
    async with beating.client() as demo:
        response = await demo.head(PATH)

    assert (response.status_code, response.content) == (200, b"")


async def test_streams_are_limited_in_number_and_one_that_ends_makes_room() -> None:
    limit = InFlightSection(event_streams=2, event_streams_per_key=1)
    async with run_gateway(in_flight=limit, heartbeat_seconds=0.01) as gateway, gateway.client() as demo:
        gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_RUNNING))
        gateway.jobs.events = [EVENT_ID_UNKNOWN]
        assert (await demo.get(PATH)).status_code == 410
        gateway.jobs.events = []
        assert (await demo.get(PATH)).status_code == 204
        gateway.jobs.events = [asyncio.Event(), finished()]
        first = RawRequest(gateway, PATH, b"", method="GET")
        await next_body(first)

        refused = await demo.get(PATH)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_much_in_flight")
        first.disconnect()
        await first.task

        gateway.jobs.events = [finished()]
        assert (await demo.get(PATH)).status_code == 200
