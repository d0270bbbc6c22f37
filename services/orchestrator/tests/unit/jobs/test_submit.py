"""Jobs are checked when they are submitted, with the errors of the synchronous door."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import ArgosyError, InvalidRequest
from chassis.ids import new_id
from orchestrator.chat.model import RequestTooLarge
from orchestrator.jobs.errors import EndpointNotSupported, JobIdReused, LaneNotAllowed, QueueFull
from orchestrator.jobs.model import Endpoint, JobState, Lane
from orchestrator.jobs.policy import JobPlan, JobPolicy
from orchestrator.jobs.submit import Accepted, JobRequest
from orchestrator.jobs.work import JobWork

from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.in_memory_jobs.tables import VirtualClock
from services.orchestrator.tests.jobs_examples import BODY
from services.orchestrator.tests.jobs_harness import JobsHarness

HELLO = json.loads(BODY)
EMBEDDINGS = b'{"model":"all-minilm-l6-v2","input":["one","two"]}'
PLANS = JobPolicy(
    plans={"pro": JobPlan(Lane.STANDARD, "premium", timedelta(days=3), 2)},
    default_plan=JobPlan(Lane.BATCH, max_queued=3),
    max_body_bytes=500,
)


def body(**changes: object) -> bytes:
    return json.dumps(HELLO | changes).encode()


async def test_a_job_waits_with_the_most_tokens_that_it_can_use(jobs: JobsHarness) -> None:
    accepted = await jobs.submit(body(max_tokens=50))

    assert accepted.job.state is JobState.QUEUED
    assert (accepted.job.model, accepted.job.lane) == ("smollm2", Lane.STANDARD)
    assert jobs.wakes == 1
    assert not jobs.peers.metering.reserved


async def test_the_same_submission_is_the_same_job(jobs: JobsHarness) -> None:
    job_id = new_id("job_")
    first = await jobs.submit(job_id=job_id)

    again = await jobs.submit(job_id=job_id)
    other = await jobs.refusal(body(max_tokens=5), job_id=job_id)

    assert again.job == first.job
    assert isinstance(other, JobIdReused)


async def test_an_embedding_is_accepted(jobs: JobsHarness) -> None:
    accepted = await jobs.submit(EMBEDDINGS, endpoint="/v1/embeddings")

    assert (accepted.job.model, accepted.job.endpoint) == ("all-minilm-l6-v2", "/v1/embeddings")


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[]",
        body(model="nothing"),
        body(model=None),
        body(model="all-minilm-l6-v2"),
        body(messages=[]),
        body(max_tokens=10**9),
        body(n="two"),
        body(argosy={"retrieval": {"vector_store_ids": []}}),
        body(messages=[{"role": "user", "content": [{"type": "video_url", "video_url": "https://a.example"}]}]),
    ],
)
async def test_what_the_synchronous_door_refuses_is_refused_with_the_same_error(jobs: JobsHarness, bad: bytes) -> None:
    error = await jobs.refusal(bad)

    try:
        model = json.loads(bad)["model"]
    except (ValueError, TypeError):
        model = "smollm2"
    if model is None:
        assert (error.reason, error.param) == ("INVALID_REQUEST", "model")
        return
    with pytest.raises(ArgosyError) as synchronous:
        await jobs.peers.generate(bad, model=model)
    assert (error.kind, error.reason, error.param) == (
        synchronous.value.kind,
        synchronous.value.reason,
        synchronous.value.param,
    )
    assert str(error) == str(synchronous.value)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"endpoint": "/v1/images"}, EndpointNotSupported),
        ({"job_id": "job 1"}, InvalidRequest),
        ({"job_id": "job_\0"}, InvalidRequest),
        ({"lane": Lane.INTERACTIVE}, LaneNotAllowed),
        ({"metadata": {str(n): "" for n in range(17)}}, InvalidRequest),
        ({"metadata": {"a": "\0"}}, InvalidRequest),
        ({"metadata": {"a" * 65: ""}}, InvalidRequest),
        ({"metadata": {"a": "b" * 513}}, InvalidRequest),
        ({"deadline": timedelta(0)}, InvalidRequest),
        ({"deadline": timedelta(days=8)}, InvalidRequest),
        ({"custom_id": ""}, InvalidRequest),
    ],
)
async def test_what_no_job_can_have_is_refused(
    jobs: JobsHarness, changes: dict[str, Any], kind: type[ArgosyError]
) -> None:
    assert isinstance(await jobs.refusal(**changes), kind)


async def test_a_plan_decides_the_pool_the_lane_and_how_many_wait(store: InMemoryJobStore) -> None:
    jobs = JobsHarness(store, store, PLANS)
    pro = replace(jobs.peers.principal, plan="pro")

    first = (await jobs.submit(principal=pro)).job
    second = (await jobs.submit(principal=pro, lane=Lane.BATCH)).job
    third = await jobs.refusal(principal=pro)
    other = (await jobs.submit(principal=replace(pro, tenant_id="ten_2", plan="free"))).job
    large = await jobs.refusal(body(user="x" * 500))

    assert (first.pool, first.lane, first.retention) == ("premium", Lane.STANDARD, timedelta(days=3))
    assert (second.lane, other.pool, other.lane) == (Lane.BATCH, "default", Lane.BATCH)
    assert isinstance(third, QueueFull)
    assert isinstance(large, RequestTooLarge)


async def test_many_jobs_are_accepted_or_refused_each_on_its_own(jobs: JobsHarness) -> None:
    requests = [
        JobRequest(new_id("job_"), Endpoint.CHAT, line, custom_id=f"line {n}")
        for n, line in enumerate([BODY, b"{", body(max_tokens=5)])
    ]

    results = await jobs.submissions.submit_all(jobs.peers.principal, requests, batch_id="batch_1")

    first, refused, last = results
    assert isinstance(first, Accepted)
    assert isinstance(refused, InvalidRequest)
    assert isinstance(last, Accepted)
    assert (last.job.batch_id, last.job.custom_id) == ("batch_1", "line 2")
    assert jobs.wakes == 1


async def test_a_format_of_embeddings_that_is_no_word_is_refused(jobs: JobsHarness) -> None:
    error = await jobs.refusal(EMBEDDINGS[:-1] + b',"encoding_format":[]}', endpoint="/v1/embeddings")

    assert (error.reason, error.param) == ("INVALID_REQUEST", "encoding_format")


async def test_a_bug_that_one_line_of_a_batch_meets_does_not_stop_the_others(
    jobs: JobsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[Exception] = []
    submissions = replace(jobs.submissions, on_bug=bugs.append)
    check = JobWork.check

    async def buggy(work: JobWork, principal: Any, request_id: str, endpoint: Any, text: bytes) -> Any:
        if b"bug" in text:
            raise KeyError("bug")
        return await check(work, principal, request_id, endpoint, text)

    monkeypatch.setattr(JobWork, "check", buggy)
    requests = [JobRequest(new_id("job_"), Endpoint.CHAT, given) for given in (BODY, body(user="bug"), BODY)]

    results = await submissions.submit_all(jobs.peers.principal, requests, batch_id="batch_1")

    assert [result.reason if isinstance(result, ArgosyError) else "" for result in results] == ["", "INTERNAL", ""]
    assert len(bugs) == 1
    with pytest.raises(KeyError):
        await submissions.submit(jobs.peers.principal, requests[1])


async def test_a_result_of_a_batch_is_kept_until_its_files_are_written() -> None:
    plan = JobPlan(retention=timedelta(days=1))
    store = InMemoryJobStore(VirtualClock().now)
    jobs = JobsHarness(store, store, JobPolicy(default_plan=plan))
    alone = await jobs.submit()
    request = JobRequest(new_id("job_"), Endpoint.CHAT, BODY)

    (of_batch,) = await jobs.submissions.submit_all(jobs.peers.principal, [request], batch_id="batch_1")

    assert isinstance(of_batch, Accepted)
    assert (alone.job.retention, of_batch.job.retention) == (timedelta(days=1), timedelta(days=3))
