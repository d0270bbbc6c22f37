"""`Prefer: respond-async, wait=`, and the header `Idempotency-Key`."""

from typing import Any

import httpx
import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.errors import Kind, RemoteError

from services.gateway.tests.fakes.gateway import GatewayFixture
from services.gateway.tests.fakes.jobs import a_job, state_event

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}
JOB: dict[str, Any] = {"endpoint": CHAT, "body": BODY}
ASYNC = {"prefer": "respond-async"}


async def test_the_answer_of_a_job_that_succeeds_in_time_is_that_of_its_endpoint(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    ended = a_job("job_1", pb.JOB_STATE_SUCCEEDED, result=b'{"object":"chat.completion"}')
    gateway.jobs.events = [state_event("1", a_job("job_1", pb.JOB_STATE_RUNNING)), state_event("final", ended)]

    response = await demo.post(CHAT, json=BODY, headers={"prefer": "wait=5, respond-async"})

    assert (response.status_code, response.json()) == (200, {"object": "chat.completion"})
    assert response.headers["preference-applied"] == "respond-async, wait=5"
    assert response.headers["location"].startswith("/v1/jobs/job_")


@pytest.mark.parametrize("state", [pb.JOB_STATE_FAILED, pb.JOB_STATE_RUNNING])
async def test_a_job_that_has_no_answer_in_time_is_accepted_as_without_a_wait(
    gateway: GatewayFixture, demo: httpx.AsyncClient, state: pb.JobState.ValueType
) -> None:
    gateway.jobs.events = [state_event("1", a_job("job_1", state))]

    response = await demo.post(CHAT, json=BODY, headers={"prefer": "respond-async, wait=300"})

    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async, wait=30"
    assert gateway.jobs.ended_watches == 1


async def test_an_idempotency_key_goes_with_the_submission(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    await demo.post("/v1/jobs", json=JOB, headers={"idempotency-key": '"abc"'})
    await demo.post(CHAT, json=BODY, headers=ASYNC | {"idempotency-key": "abd"})
    bad = await demo.post("/v1/jobs", json=JOB, headers={"idempotency-key": "a b"})
    gateway.jobs.refuse_with.append(RemoteError(Kind.UNPROCESSABLE, "IDEMPOTENCY_KEY_REUSED", "Used before."))
    reused = await demo.post("/v1/jobs", json=JOB, headers={"idempotency-key": "abc"})

    assert [one.idempotency_key for one in gateway.jobs.submissions] == ["abc", "abd", "abc"]
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "idempotency-key")
    assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")


async def test_a_synchronous_answer_says_that_an_idempotency_key_was_not_used(demo: httpx.AsyncClient) -> None:
    with_key = await demo.post(CHAT, json=BODY, headers={"idempotency-key": "abc"})
    without = await demo.post(CHAT, json=BODY)

    assert with_key.status_code == 200
    assert with_key.headers["argosy-idempotency"] == "unsupported"
    assert "argosy-idempotency" not in without.headers
