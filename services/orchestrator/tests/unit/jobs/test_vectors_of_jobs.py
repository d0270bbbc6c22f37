"""Vectors that a worker reports: rendered without holding up other work."""

from __future__ import annotations

import asyncio
import base64
import json
import struct

import pytest
from orchestrator.embeddings.body import TURN_BYTES
from orchestrator.jobs.model import JobState
from orchestrator.usage.model import Attempt

from services.orchestrator.tests.harness import reported
from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.jobs_harness import JobsHarness

TURNS = 50


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_a_large_answer_of_vectors_is_rendered_in_turns_with_all_other_work(
    jobs: JobsHarness, store: InMemoryJobStore, encoding: str
) -> None:
    body = {"model": "all-minilm-l6-v2", "input": ["a"] * TURNS, "encoding_format": encoding}
    claimed = await jobs.start(body=json.dumps(body).encode(), endpoint="/v1/embeddings")
    vector = struct.pack("<f", 0.25) * (TURN_BYTES // 4)
    completion = asyncio.create_task(
        jobs.runs.complete(claimed.run, (Attempt(1, 0, reported(9, 0)),), [vector] * TURNS)
    )
    turns = 0

    while not completion.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns >= TURNS
    assert completion.result() is JobState.SUCCEEDED
    job = await store.get(claimed.run.key)
    assert job is not None
    answer = json.loads(job.result)
    assert [one["index"] for one in answer["data"]] == list(range(TURNS))
    right = base64.b64encode(vector).decode() if encoding == "base64" else [0.25] * (TURN_BYTES // 4)
    assert all(one["embedding"] == right for one in answer["data"])
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


async def test_vectors_of_a_job_that_is_being_cancelled_are_not_rendered(
    jobs: JobsHarness, store: InMemoryJobStore
) -> None:
    claimed = await jobs.start(body=b'{"model":"all-minilm-l6-v2","input":"a"}', endpoint="/v1/embeddings")
    await jobs.cancellations.cancel(claimed.run.key)

    state = await jobs.runs.complete(claimed.run, (Attempt(1, 0, reported(4, 0)),), [b"no numbers"])

    assert state is JobState.CANCELLED
    job = await store.get(claimed.run.key)
    assert job is not None
    assert job.result == b""


@pytest.mark.parametrize(("encoding", "fits"), [("float", False), ("base64", True)])
async def test_vectors_that_are_too_long_as_text_fail_the_job_which_is_billed(
    jobs: JobsHarness, store: InMemoryJobStore, monkeypatch: pytest.MonkeyPatch, encoding: str, fits: bool
) -> None:
    monkeypatch.setattr("orchestrator.jobs.complete.MAX_RESULT_BYTES", 2_000)
    body = {"model": "all-minilm-l6-v2", "input": ["a"] * 2, "encoding_format": encoding}
    claimed = await jobs.start(body=json.dumps(body).encode(), endpoint="/v1/embeddings")

    vector = struct.pack("<100f", *(number / 7 for number in range(100)))
    state = await jobs.runs.complete(claimed.run, (Attempt(1, 0, reported(9, 0)),), [vector] * 2)

    job = await store.get(claimed.run.key)
    assert job is not None
    assert state is (JobState.SUCCEEDED if fits else JobState.FAILED)
    assert (job.error is None) is fits
    if not fits:
        assert job.error is not None
        assert job.error.reason == "JOB_RESULT_TOO_LARGE"
    assert job.usage == reported(9, 0)
