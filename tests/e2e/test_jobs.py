"""Jobs through the whole fleet: submitted, followed, resumed, cancelled, paused and paid for."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.fleet.client import Fleet
from tests.fleet.redis_use import running_redis

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]

CHAT = "/v1/chat/completions"
FINAL = {"succeeded", "failed", "cancelled"}
TIMEOUT_SECONDS = 60


def chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16, **fields}


@pytest.fixture
async def http(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a new tenant."""
    async with fleet.new_tenant() as client:
        yield client


@pytest.fixture
async def redis_runs() -> AsyncIterator[None]:
    """Tests of other processes freeze Redis, and only it has deltas and earlier events."""
    async with running_redis():
        yield


async def submitted(http: httpx.AsyncClient, body: dict[str, Any], **fields: Any) -> str:
    response = await http.post("/v1/jobs", json={"endpoint": CHAT, "body": body, **fields})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def finished(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            job: dict[str, Any] = (await http.get(f"/v1/jobs/{job_id}")).json()
            if job["state"] in FINAL:
                return job
            await asyncio.sleep(0.1)


async def events(http: httpx.AsyncClient, job_id: str, after: str = "") -> AsyncIterator[tuple[str, str, Any]]:
    """The events of a job: id, type, data."""
    headers = {"last-event-id": after} if after else {}
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=TIMEOUT_SECONDS) as response,
    ):
        assert response.status_code == 200
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            else:
                if "data" in fields:
                    yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}


def text_of(deltas: list[tuple[str, str, Any]]) -> str:
    chunks = [chunk for _, kind, data in deltas if kind == "delta" for chunk in data["chunks"]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def test_a_job_is_accepted_run_and_paid_for(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("job-instant", upstream_model="instant")
    job_id = await submitted(http, chat("job-instant"), metadata={"customer": "7"})

    job = await finished(http, job_id)

    assert job["state"] == "succeeded", job
    assert job["result"]["choices"][0]["message"]["content"]
    assert job["usage"]["total_tokens"] == job["usage"]["prompt_tokens"] + job["usage"]["completion_tokens"]
    assert Decimal(job["cost_usd"]) > 0
    assert job["metadata"] == {"customer": "7"}
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while Decimal((await http.get("/v1/usage")).json()["total_usd"]) != Decimal(job["cost_usd"]):
            await asyncio.sleep(0.2)


@pytest.mark.usefixtures("redis_runs")
async def test_a_stream_of_events_resumes_after_any_of_them(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("job-paced", upstream_model="paced?chunks=12&interval=0.05")
    job_id = await submitted(http, chat("job-paced", stream=True))

    live = [event async for event in events(http, job_id)]

    assert live[-1][0] == "final"
    assert live[-1][2]["result"]["choices"][0]["message"]["content"] == text_of(live)
    assert sum(kind == "delta" for _, kind, _ in live) > 2
    numbered = [event for event in live if event[0]]
    assert len({event_id for event_id, _, _ in numbered}) == len(numbered)
    for place, (event_id, _, _) in enumerate(numbered[:-1]):
        resumed = [event async for event in events(http, job_id, event_id)]
        assert resumed == numbered[place + 1 :]
    over = await http.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "final"})
    assert over.status_code == 204
    unknown = await http.get(f"/v1/jobs/{job_id}/events", params={"after": "1-1"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (410, "event_id_unknown")


@pytest.mark.usefixtures("redis_runs")
async def test_a_running_job_is_cancelled_and_a_finished_one_is_not(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("job-long", upstream_model="paced?chunks=400&interval=0.1")
    job_id = await submitted(http, chat("job-long", stream=True))
    stream = events(http, job_id)
    async for _, kind, _ in stream:
        if kind == "delta":
            break

    response = await http.post(f"/v1/jobs/{job_id}/cancel")
    rest = [event async for event in stream]

    assert response.status_code == 200, response.text
    assert rest[-1][2]["state"] == "cancelled"
    again = await http.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_finished")


async def test_a_failed_job_has_the_error_that_a_client_who_waits_would_get(
    fleet: Fleet, http: httpx.AsyncClient
) -> None:
    await fleet.add_model("job-400", upstream_model="400")
    now = await http.post(CHAT, json=chat("job-400"))
    job = await finished(http, await submitted(http, chat("job-400")))

    assert (job["state"], job["result"]) == ("failed", None)
    assert job["error"]["code"] == now.json()["error"]["code"]
    assert set(job["error"]) == {"message", "type", "param", "code"}


async def test_a_walk_over_the_list_meets_every_job_once(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("job-instant", upstream_model="instant")
    ids = [await submitted(http, chat("job-instant")) for _ in range(7)]
    for job_id in ids:
        await finished(http, job_id)

    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await http.get("/v1/jobs", params={"limit": "3", "state": "succeeded", **after})).json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}

    assert seen == ids[::-1]
    assert (await http.get("/v1/jobs", params={"state": "failed"})).json()["data"] == []


async def test_another_tenant_does_not_see_a_job(fleet: Fleet, http: httpx.AsyncClient) -> None:
    await fleet.add_model("job-instant", upstream_model="instant")
    job_id = await submitted(http, chat("job-instant"))
    async with fleet.new_tenant() as other:
        for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events"):
            assert (await other.get(path)).status_code == 404
        assert (await other.post(f"/v1/jobs/{job_id}/cancel")).status_code == 404
        assert (await other.get("/v1/jobs")).json()["data"] == []


async def test_a_paused_tenant_waits_and_goes_on(fleet: Fleet) -> None:
    await fleet.add_model("job-instant", upstream_model="instant")
    tenant_id, key = await fleet.create_tenant()
    async with (
        httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin,
        httpx.AsyncClient(base_url=fleet.base_url, headers={"authorization": f"Bearer {key}"}, timeout=30) as http,
    ):
        selector = {"tenant_id": tenant_id}
        assert (await admin.post("/admin/v1/queues/pause", json=selector)).status_code == 204
        job_id = await submitted(http, chat("job-instant"))
        queues = (await admin.get("/admin/v1/queues")).json()
        assert {"tenant_id": tenant_id, "pool": None, "model": None} in queues["paused"]
        assert sum(queue["queued"] for queue in queues["data"]) >= 1
        assert (await http.get(f"/v1/jobs/{job_id}")).json()["state"] == "queued"

        assert (await admin.post("/admin/v1/queues/resume", json=selector)).status_code == 204

        assert (await finished(http, job_id))["state"] == "succeeded"


def test_the_sdk_submits_a_job_by_a_header_and_reads_its_answer(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Echo hello."}],
        max_tokens=8,
        extra_headers={"Prefer": "respond-async"},
    )
    assert raw.status_code == 202
    assert raw.headers["preference-applied"] == "respond-async"
    job_path = raw.headers["location"].removeprefix("/v1")
    job: dict[str, Any] = client.get(job_path, cast_to=dict[str, Any])
    for _ in range(600):
        if job["state"] in FINAL:
            break
        client.with_options(timeout=30).get(f"{job_path}/events", cast_to=httpx.Response)
        job = client.get(job_path, cast_to=dict[str, Any])

    assert job["state"] == "succeeded", job
    assert ChatCompletion.model_validate(job["result"]).choices[0].message.content
