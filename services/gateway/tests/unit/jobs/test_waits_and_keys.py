"""`Prefer: respond-async, wait=`, and the header `Idempotency-Key`."""

import asyncio

import httpx
import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.errors import Kind, RemoteError
from gateway.settings import InFlightSection

from services.gateway.tests.fakes.gateway import GatewayFixture, run_gateway
from services.gateway.tests.fakes.jobs import CHAT, CHAT_BODY, CHAT_JOB, a_job, state_event

ASYNC = {"prefer": "respond-async"}
WAIT = {"prefer": "respond-async, wait=30"}


async def test_the_answer_of_a_job_that_succeeds_in_time_is_that_of_its_endpoint(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    ended = a_job("job_1", pb.JOB_STATE_SUCCEEDED, result=b'{"object":"chat.completion"}')
    gateway.jobs.events = [state_event("1", a_job("job_1", pb.JOB_STATE_RUNNING)), state_event("final", ended)]

    response = await demo.post(CHAT, json=CHAT_BODY, headers={"prefer": "wait=5, respond-async"})

    assert (response.status_code, response.json()) == (200, {"object": "chat.completion"})
    assert response.headers["preference-applied"] == "respond-async, wait=5"
    assert response.headers["location"].startswith("/v1/jobs/job_")


@pytest.mark.parametrize("state", [pb.JOB_STATE_FAILED, pb.JOB_STATE_RUNNING])
async def test_a_job_that_has_no_answer_in_time_is_accepted_as_without_a_wait(
    gateway: GatewayFixture, demo: httpx.AsyncClient, state: pb.JobState.ValueType
) -> None:
    gateway.jobs.events = [state_event("1", a_job("job_1", state))]

    response = await demo.post(CHAT, json=CHAT_BODY, headers={"prefer": "respond-async, wait=300"})

    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async, wait=30"
    assert gateway.jobs.ended_watches == 1


async def test_waits_are_limited_in_number_and_one_too_many_is_accepted_without_a_wait() -> None:
    limit = InFlightSection(event_streams=1, event_streams_per_key=1)
    async with run_gateway(in_flight=limit) as gateway, gateway.client() as demo:
        end = asyncio.Event()
        gateway.jobs.events = [end, state_event("1", a_job("job_1", pb.JOB_STATE_FAILED))]
        first = asyncio.create_task(demo.post(CHAT, json=CHAT_BODY, headers=WAIT))
        async with asyncio.timeout(30):
            while not gateway.jobs.watches:
                await asyncio.sleep(0.01)

        second = await demo.post(CHAT, json=CHAT_BODY, headers=WAIT)
        end.set()
        answers = [(await first), await demo.post(CHAT, json=CHAT_BODY, headers=WAIT)]

    assert (second.status_code, second.headers["preference-applied"]) == (202, "respond-async")
    assert [one.headers["preference-applied"] for one in answers] == ["respond-async, wait=30"] * 2


async def test_a_gateway_that_stops_answers_those_that_wait(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.jobs.events = [asyncio.Event()]
    waiting = asyncio.create_task(demo.post(CHAT, json=CHAT_BODY, headers=WAIT))
    async with asyncio.timeout(20):  # less than the wait
        while not gateway.jobs.watches:
            await asyncio.sleep(0.01)

        await gateway.event_streams.stop()
        response = await waiting

    assert (response.status_code, response.json()["state"]) == (202, "queued")


async def test_an_idempotency_key_goes_with_the_submission(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    await demo.post("/v1/jobs", json=CHAT_JOB, headers={"idempotency-key": '"abc"'})
    await demo.post(CHAT, json=CHAT_BODY, headers=ASYNC | {"idempotency-key": "abd"})
    bad = await demo.post("/v1/jobs", json=CHAT_JOB, headers={"idempotency-key": "a b"})
    gateway.jobs.refuse_with.append(RemoteError(Kind.UNPROCESSABLE, "IDEMPOTENCY_KEY_REUSED", "Used before."))
    reused = await demo.post("/v1/jobs", json=CHAT_JOB, headers={"idempotency-key": "abc"})

    assert [one.idempotency_key for one in gateway.jobs.submissions] == ["abc", "abd", "abc"]
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "idempotency-key")
    assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")


async def test_a_synchronous_answer_says_that_an_idempotency_key_was_not_used(demo: httpx.AsyncClient) -> None:
    with_key = await demo.post(CHAT, json=CHAT_BODY, headers={"idempotency-key": "abc"})
    without = await demo.post(CHAT, json=CHAT_BODY)

    assert with_key.status_code == 200
    assert with_key.headers["argosy-idempotency"] == "unsupported"
    assert "argosy-idempotency" not in without.headers
