"""`/v1/jobs`: submit, read, list, cancel; and inference with `Prefer: respond-async`."""

import json
from typing import Any

import httpx
import orjson
import pytest
from argosy.common.v1 import common_pb2
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.errors import Kind, RemoteError
from gateway.rate_limits.limiter import ClassRateLimits
from gateway.settings import InFlightSection
from values.protos import proto_to_duration

from services.gateway.tests.fakes.gateway import MAX_CHAT_BYTES, GatewayFixture, run_gateway
from services.gateway.tests.fakes.jobs import CHAT, CHAT_BODY, CHAT_JOB, a_job

EMBEDDINGS = "/v1/embeddings"
BODY, JOB = CHAT_BODY, CHAT_JOB
ASYNC = {"prefer": "respond-async"}


async def test_a_job_is_accepted_with_the_place_where_it_is_read(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    fields = JOB | {"lane": "batch", "metadata": {"customer": "7"}, "deadline_seconds": 90}
    response = await demo.post("/v1/jobs", json=fields)

    job = response.json()
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert (job["object"], job["state"], job["lane"]) == ("job", "queued", "batch")
    (submission,) = gateway.jobs.submissions
    assert submission.job_id == job["id"]
    assert job["id"].startswith("job_")
    assert proto_to_duration(submission.deadline).total_seconds() == 90
    assert dict(submission.metadata) == {"customer": "7"}
    assert (await demo.get(response.headers["location"])).json()["metadata"] == {"customer": "7"}


async def test_the_clients_bytes_are_submitted_as_they_came(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    body = b'{ "odd": [1.50, "\\u00e9"], "model":"smollm2","messages":[{"role":"user","content":"Hi","x":{}}] }'

    await demo.post("/v1/jobs", content=b'{"endpoint": "/v1/chat/completions", "body": ' + body + b"}")
    await demo.post(CHAT, content=body, headers=ASYNC)

    assert [submission.body for submission in gateway.jobs.submissions] == [body, body]


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, BODY), (EMBEDDINGS, {"model": "mini", "input": ["a"]}), (CHAT, BODY | {"stream": True})]
)
async def test_a_request_that_prefers_it_becomes_a_job(
    gateway: GatewayFixture, demo: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    response = await demo.post(path, json=body, headers=ASYNC | {"argosy-lane": "batch"})

    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    assert response.json()["lane"] == "batch"
    (submission,) = gateway.jobs.submissions
    assert (submission.endpoint, json.loads(submission.body)) == (path, body)
    assert not gateway.inference.requests


async def test_a_request_that_prefers_something_else_is_answered_at_once(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    response = await demo.post(CHAT, json=BODY, headers={"prefer": "wait=10"})

    assert response.status_code == 200
    assert "preference-applied" not in response.headers
    assert not gateway.jobs.submissions


BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"model": "m", "messages": []}, "messages"),
    (CHAT, BODY | {"temperature": 3}, "temperature"),
    (CHAT, BODY | {"n": 99}, "n"),
    (CHAT, {"messages": BODY["messages"]}, "model"),
    (EMBEDDINGS, {"model": "m", "input": [[1, -2]]}, "input[0]"),
    (EMBEDDINGS, {"model": "m", "input": ["", "a"]}, "input[0]"),
]


@pytest.mark.parametrize(("path", "body", "param"), BAD_BODIES)
async def test_a_body_is_refused_as_by_its_endpoint(
    gateway: GatewayFixture, demo: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    now = await demo.post(path, json=body)
    later = await demo.post(path, json=body, headers=ASYNC)
    job = await demo.post("/v1/jobs", json={"endpoint": path, "body": body})

    assert (now.status_code, now.json()["error"]["param"]) == (400, param)
    assert later.json() == now.json()
    assert job.json()["error"]["code"] == now.json()["error"]["code"]
    assert job.json()["error"]["param"] == f"body.{param}"
    assert not gateway.jobs.submissions


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"lane": "fast"}, "lane"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"metadata": {"x" * 65: "a"}}, "metadata"),
        ({"metadata": {"x": "a" * 513}}, "metadata.x"),
        ({"metadata": {str(n): "a" for n in range(17)}}, "metadata"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"deadline_seconds": 10**9}, "deadline_seconds"),
        ({"deadline_seconds": "soon"}, "deadline_seconds"),
        ({"endpoint": None}, "endpoint"),
        ({"priority": 1}, None),
    ],
)
async def test_an_invalid_submission_is_refused(
    gateway: GatewayFixture, demo: httpx.AsyncClient, change: dict[str, Any], param: str | None
) -> None:
    response = await demo.post("/v1/jobs", json=JOB | change)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not gateway.jobs.submissions


async def test_a_lane_that_does_not_exist_is_refused_in_the_header_too(demo: httpx.AsyncClient) -> None:
    response = await demo.post(CHAT, json=BODY, headers=ASYNC | {"argosy-lane": "fast"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "argosy-lane")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RemoteError(Kind.INVALID, "ENDPOINT_NOT_SUPPORTED", "No job can be made of this endpoint."), 400),
        (RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "There is no such model.", param="model"), 404),
        (RemoteError(Kind.DENIED, "LANE_NOT_ALLOWED", "The plan has a lower lane."), 403),
        (RemoteError(Kind.THROTTLED, "QUEUE_FULL", "There are too many waiting jobs."), 429),
    ],
)
async def test_the_orchestrators_refusal_is_the_answer(
    gateway: GatewayFixture, demo: httpx.AsyncClient, error: RemoteError, status: int
) -> None:
    gateway.jobs.refuse_with = [error]

    response = await demo.post("/v1/jobs", json=JOB)

    assert (response.status_code, response.json()["error"]["code"]) == (status, error.code)
    assert "location" not in response.headers


async def test_an_unknown_endpoint_is_the_orchestrators_to_refuse(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    await demo.post("/v1/jobs", json=JOB | {"endpoint": "/v1/images", "body": {"anything": 1}})

    (submission,) = gateway.jobs.submissions
    assert submission.endpoint == "/v1/images"


async def test_a_submission_whose_answer_is_lost_is_repeated_under_the_same_id(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.lose_answers = 1

    response = await demo.post("/v1/jobs", json=JOB)

    assert response.status_code == 202
    first, second = gateway.jobs.submissions
    assert first == second
    assert len(gateway.jobs.jobs) == 1


async def test_an_orchestrator_that_does_not_answer_is_asked_twice_and_no_more(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.lose_answers = 9

    response = await demo.post("/v1/jobs", json=JOB)

    assert (response.status_code, len(gateway.jobs.submissions)) == (503, 2)


async def test_warnings_are_in_the_answer_to_the_submission(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.jobs.warnings = ["The field x was dropped."]

    response = await demo.post("/v1/jobs", json=JOB)

    assert response.json()["warnings"] == ["The field x was dropped."]


async def test_submissions_count_as_inference() -> None:
    async with run_gateway(ClassRateLimits(key=2)) as gateway, gateway.client() as demo:
        answers = [await demo.post("/v1/jobs", json=JOB), await demo.post(CHAT, json=BODY)]
        answers.append(await demo.post("/v1/jobs", json=JOB))

        assert [answer.status_code for answer in answers] == [202, 200, 429]
        # Reads have a bucket of their own.
        assert (await demo.get("/v1/jobs")).status_code == 200


async def test_bodies_of_submissions_are_limited_in_size_and_in_all() -> None:
    budget = InFlightSection(body_bytes=70_000, body_bytes_per_key=70_000)
    async with run_gateway(in_flight=budget) as gateway, gateway.client() as demo:
        for path, headers in (("/v1/jobs", {}), (CHAT, ASYNC)):
            response = await demo.post(path, content=b" " * (MAX_CHAT_BYTES + 1), headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
        assert not gateway.jobs.submissions


async def test_a_finished_job_has_its_result_with_all_digits(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    result = b'{"id":"chatcmpl-1","big":12345678901234567890123,"exact":1.50}'
    usage = common_pb2.TokenUsage(source=common_pb2.USAGE_SOURCE_REPORTED, input_tokens=3, output_tokens=2)
    job = a_job("job_1", pb.JOB_STATE_SUCCEEDED, result=result, usage=usage, cost=common_pb2.Money(nano_usd=12_300))
    gateway.jobs.put(gateway.tenants["demo"], job)

    response = await demo.get("/v1/jobs/job_1")

    assert result in response.content
    body = response.json()
    assert (body["state"], body["error"], body["cost_usd"], body["cost_nano_usd"]) == (
        "succeeded",
        None,
        "0.0000123",
        12_300,
    )
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_a_result_that_no_message_holds_is_read_in_pieces(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.pieces["job_1"] = [b'{"object":', b'"list"}']
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_SUCCEEDED, result_bytes=17))

    assert (await demo.get("/v1/jobs/job_1")).json()["result"] == {"object": "list"}


async def test_a_result_that_is_no_json_does_not_break_the_answer(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_SUCCEEDED, result=b'{"cut":'))

    assert (await demo.get("/v1/jobs/job_1")).json()["result"] == '{"cut":'


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            common_pb2.Error(kind="invalid", reason="CONTEXT_TOO_LONG", message="Too long.", param="messages"),
            {
                "message": "Too long.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_too_long",
            },
        ),
        (
            common_pb2.Error(kind="internal", reason="INTERNAL", message="KeyError: secret"),
            {
                "message": "Something went wrong on our side.",
                "type": "server_error",
                "param": None,
                "code": "internal",
            },
        ),
    ],
)
async def test_a_failed_job_has_its_error_in_openais_shape(
    gateway: GatewayFixture, demo: httpx.AsyncClient, error: common_pb2.Error, expected: dict[str, Any]
) -> None:
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_FAILED, error=error))

    body = (await demo.get("/v1/jobs/job_1")).json()

    assert (body["state"], body["result"], body["error"]) == ("failed", None, expected)


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1"))
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_2", pb.JOB_STATE_RUNNING))

    waiting = (await demo.post("/v1/jobs/job_1/cancel")).json()
    running = (await demo.post("/v1/jobs/job_2/cancel")).json()

    assert (waiting["state"], running["state"], running["cancel_requested"]) == ("cancelled", "running", True)


async def test_a_finished_job_cannot_be_cancelled(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1", pb.JOB_STATE_SUCCEEDED))

    response = await demo.post("/v1/jobs/job_1/cancel")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "job_finished")
    assert response.headers["x-should-retry"] == "false"


async def test_another_tenants_job_does_not_exist(
    gateway: GatewayFixture, demo: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    gateway.jobs.put(gateway.tenants["demo"], a_job("job_1"))

    answers = [
        await other.get("/v1/jobs/job_1"),
        await other.post("/v1/jobs/job_1/cancel"),
        await other.get("/v1/jobs/job_1/events"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert (await other.get("/v1/jobs")).json()["data"] == []
    assert (await demo.get("/v1/jobs/job_1")).status_code == 200


async def test_a_walk_over_pages_meets_every_job_once_and_ends(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    ids = [f"job_{number:02}" for number in range(11)]
    for job_id in ids:
        gateway.jobs.put(gateway.tenants["demo"], a_job(job_id))

    seen: list[str] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = (await demo.get("/v1/jobs", params=params)).json()
        seen += [job["id"] for job in page["data"]]
        assert page["last_id"] == seen[-1]
        if not page["has_more"]:
            break
        params["after"] = page["last_id"]

    assert seen == ids[::-1]


async def test_a_list_has_only_what_is_asked_for(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    tenant = gateway.tenants["demo"]
    gateway.jobs.put(tenant, a_job("job_1", pb.JOB_STATE_FAILED))
    gateway.jobs.put(tenant, a_job("job_2", model="other/model"))
    gateway.jobs.put(tenant, a_job("job_3", endpoint=EMBEDDINGS))

    async def listed(**params: str) -> list[str]:
        return [job["id"] for job in (await demo.get("/v1/jobs", params=params)).json()["data"]]

    assert await listed(state="failed") == ["job_1"]
    assert await listed(model="other/model") == ["job_2"]
    assert await listed(endpoint=EMBEDDINGS) == ["job_3"]
    assert await listed(state="queued", model="smollm2") == ["job_3"]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"limit": -1}, {"state": "done"}, {"status": "failed"}]
)
async def test_what_cannot_be_listed_is_refused(demo: httpx.AsyncClient, params: dict[str, Any]) -> None:
    assert (await demo.get("/v1/jobs", params=params)).status_code == 400


async def test_an_admin_is_no_member(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/v1/jobs", json=JOB)).status_code == 403
    assert (await admin.get("/v1/jobs")).status_code == 403


async def test_a_large_body_is_submitted_without_a_copy_of_its_fields(gateway: GatewayFixture) -> None:
    """What the gateway checks of a body is little; the rest of it is not decoded."""
    text = "x" * 3_000
    async with gateway.client() as demo:
        body = orjson.dumps(BODY | {"unknown": [text]})
        assert (
            await demo.post("/v1/jobs", content=b'{"endpoint":"/v1/chat/completions","body":' + body + b"}")
        ).is_success

    assert gateway.jobs.submissions[0].body == body
