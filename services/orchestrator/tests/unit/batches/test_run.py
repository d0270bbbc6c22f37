"""A batch goes from its file to its output and error files, whatever dies in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from chassis.errors import Kind, RemoteError, Unavailable
from chassis.ids import new_id
from chassis.tenancy import Principal
from orchestrator.batches.lines import FileLimits
from orchestrator.batches.model import Batch, BatchState, NewBatch
from orchestrator.batches.run import LINES_PER_SUBMISSION, RunBatch
from orchestrator.batches.schedule import MAX_CRASHES, BatchRunner

from services.orchestrator.tests.fake_batches import FakeBatchJobs, FakeBatchStore, FakeFileStore

CHAT = "/v1/chat/completions"
CALLER = Principal("ten_1", "prj_1", "key_1", roles=frozenset({"member"}))
REFUSED = RemoteError(Kind.NOT_FOUND, "MODEL_NOT_FOUND", "there is no such model", param="model")


def request(custom_id: str) -> bytes:
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "demo"}})


class Harness:
    def __init__(self) -> None:
        self.store, self.files, self.jobs = FakeBatchStore(), FakeFileStore(), FakeBatchJobs()
        self.limits = FileLimits(lines=100_000, line_bytes=10_000)
        self.runner = BatchRunner(RunBatch(self.store, self.files, self.jobs, self.limits), self.store)

    async def create(self, *lines: bytes) -> Batch:
        file_id = new_id("file-")
        self.files.put(file_id, b"\n".join(lines))
        new = NewBatch(new_id("batch_"), CHAT, file_id)
        return await self.store.create(CALLER, new, timedelta(days=1), 10)

    async def step(self) -> None:
        """Let due batches take a step, and some time pass."""
        await self.runner.run_due()
        await asyncio.gather(*self.runner._running)
        self.store.pass_time(timedelta(minutes=1))

    async def read(self, batch: Batch) -> Batch:
        return await self.store.get(batch.tenant_id, batch.batch_id)

    def lines(self, file_id: str) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.files.contents[file_id].splitlines()]


@pytest.fixture
def harness() -> Harness:
    return Harness()


async def test_a_batch_with_bad_lines_and_refused_requests_runs_the_rest(harness: Harness) -> None:
    harness.jobs.refused["refused"] = REFUSED
    batch = await harness.create(request("a"), b"{", request("refused"), request("b"), request("a"))
    await harness.step()
    running = await harness.read(batch)
    assert (running.state, running.total, running.failed) == (BatchState.IN_PROGRESS, 5, 3)

    harness.jobs.end_all()
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.total, final.completed, final.failed) == (BatchState.COMPLETED, 5, 2, 3)
    assert [(line["custom_id"], line["error"]) for line in harness.lines(final.output_file_id)] == [
        ("a", None),
        ("b", None),
    ]
    (first, _) = harness.lines(final.output_file_id)
    assert first["response"] == {
        "status_code": 200,
        "request_id": f"{str(first['id']).removeprefix('batch_req_')}.2",
        "body": {"answer": "a"},
    }
    errors = harness.lines(final.error_file_id)
    assert [(line["custom_id"], line["error"]["code"], line["error"]["line"]) for line in errors] == [  # type: ignore[index]
        (None, "batch_line_invalid", 2),
        ("refused", "model_not_found", 3),
        ("a", "duplicate_custom_id", 5),
    ]
    assert harness.files.names[final.output_file_id] == f"{batch.batch_id}_output.jsonl"
    assert len(harness.store.finished_events) == 1


async def test_a_request_that_failed_is_a_line_with_the_response_of_the_synchronous_door(harness: Harness) -> None:
    batch = await harness.create(request("a"))
    await harness.step()
    harness.jobs.end_all(RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent"))
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed, final.output_file_id) == (BatchState.COMPLETED, 0, 1, "")
    (line,) = harness.lines(final.error_file_id)
    assert line["custom_id"] == "a"
    assert line["response"]["status_code"] == 429  # type: ignore[index]
    assert line["response"]["body"]["error"]["code"] == "insufficient_quota"  # type: ignore[index]
    assert line["error"] == {"code": "insufficient_quota", "message": "the budget is spent"}


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{\n[1]"])
async def test_a_file_without_a_request_fails_and_says_why(harness: Harness, content: bytes) -> None:
    batch = await harness.create(content)
    await harness.step()

    final = await harness.read(batch)
    assert final.state is BatchState.FAILED
    assert final.errors[0].error.reason == "BATCH_FILE_INVALID"
    assert not harness.jobs.submissions


async def test_a_file_that_was_deleted_meanwhile_fails_the_batch(harness: Harness) -> None:
    batch = await harness.create(request("a"))
    harness.files.contents.clear()
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.errors[0].error.reason) == (BatchState.FAILED, "FILE_NOT_FOUND")


async def test_a_file_over_the_limit_fails_before_any_request_runs(harness: Harness) -> None:
    harness.limits = FileLimits(lines=LINES_PER_SUBMISSION, line_bytes=10_000)
    harness.runner = BatchRunner(RunBatch(harness.store, harness.files, harness.jobs, harness.limits), harness.store)
    batch = await harness.create(*(request(str(number)) for number in range(LINES_PER_SUBMISSION + 1)))
    await harness.step()

    assert (await harness.read(batch)).state is BatchState.FAILED
    assert not harness.jobs.submissions


async def test_a_batch_goes_on_where_a_dead_process_stopped(harness: Harness) -> None:
    count = 3 * LINES_PER_SUBMISSION
    await harness.create(*(request(str(number)) for number in range(count)))
    (claim,) = await harness.store.claim_due(1, timedelta(seconds=30))
    started = await harness.store.start(claim, count)
    # The process died after it had made the jobs of the first lines, and noted only some of them.
    await harness.store.record_lines(claim, LINES_PER_SUBMISSION, [], timedelta(seconds=30), last=False)
    assert started.state is BatchState.IN_PROGRESS

    harness.store.pass_time(timedelta(minutes=1))
    await harness.step()

    assert harness.jobs.submissions == [LINES_PER_SUBMISSION] * 2
    assert [int(custom_id) for custom_id in harness.jobs.waiting.values()] == list(range(LINES_PER_SUBMISSION, count))


async def test_a_full_queue_is_waited_for_and_is_no_error_of_a_line(harness: Harness) -> None:
    harness.jobs.refused["b"] = RemoteError(Kind.THROTTLED, "QUEUE_FULL", "wait")
    batch = await harness.create(request("a"), request("b"), request("c"))
    await harness.step()
    waiting = await harness.read(batch)
    assert (waiting.lines_read, waiting.submitted, waiting.failed) == (1, False, 0)

    harness.jobs.refused.clear()
    await harness.step()
    harness.jobs.end_all()
    await harness.step()
    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed) == (BatchState.COMPLETED, 3, 0)
    assert [line["custom_id"] for line in harness.lines(final.output_file_id)] == ["a", "b", "c"]


async def test_a_queue_that_is_full_between_two_submissions_loses_no_progress(harness: Harness) -> None:
    count = LINES_PER_SUBMISSION + 1
    harness.jobs.refused[str(LINES_PER_SUBMISSION)] = RemoteError(Kind.THROTTLED, "QUEUE_FULL", "wait")
    batch = await harness.create(*(request(str(number)) for number in range(count)))
    await harness.step()

    assert (await harness.read(batch)).lines_read == LINES_PER_SUBMISSION


async def test_a_store_that_does_not_answer_is_asked_again(harness: Harness) -> None:
    harness.jobs.failure = Unavailable("postgres does not answer")
    batch = await harness.create(request("a"))
    for _ in range(2 * MAX_CRASHES):
        await harness.step()
    assert (await harness.read(batch)).state is BatchState.IN_PROGRESS

    harness.jobs.failure = None
    await harness.step()
    assert list(harness.jobs.waiting.values()) == ["a"]


async def test_a_batch_that_kills_its_process_is_given_up(harness: Harness) -> None:
    batch = await harness.create(request("a"))
    for _ in range(MAX_CRASHES):
        await harness.store.claim_due(1, timedelta(seconds=1))
        harness.store.pass_time(timedelta(seconds=2))
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.errors[0].error.reason) == (BatchState.FAILED, "INTERNAL")


async def test_a_batch_that_is_given_up_runs_nothing_more_and_keeps_the_answers_that_it_has(harness: Harness) -> None:
    harness.jobs.refused["c"] = RemoteError(Kind.THROTTLED, "QUEUE_FULL", "wait")
    batch = await harness.create(request("a"), request("b"), request("c"))
    await harness.step()
    first = min(harness.jobs.waiting)
    running = harness.jobs.waiting.pop(first)
    harness.jobs.end_all()
    harness.jobs.waiting[first] = running
    del harness.files.contents[batch.input_file_id]
    for _ in range(MAX_CRASHES + 2):
        await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed) == (BatchState.FAILED, 1, 1)
    assert final.errors[0].error.reason == "INTERNAL"
    assert not harness.jobs.waiting
    assert [line["custom_id"] for line in harness.lines(final.output_file_id)] == ["b"]


async def test_a_batch_that_is_given_up_ends_although_its_answers_cannot_be_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RemoteError(Kind.TOO_LARGE, "FILE_TOO_LARGE", "no room")

    monkeypatch.setattr(harness.files, "upload", refuse)
    batch = await harness.create(request("a"))
    await harness.step()
    harness.jobs.end_all()
    for _ in range(MAX_CRASHES + 2):
        await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.output_file_id) == (BatchState.FAILED, 1, "")


async def test_a_cancelled_batch_keeps_the_answers_that_it_has(harness: Harness) -> None:
    batch = await harness.create(request("a"))
    await harness.step()
    harness.jobs.end_all()
    harness.jobs.waiting["job_z"] = "late"
    await harness.store.request_cancel(batch.tenant_id, batch.batch_id)
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed) == (BatchState.CANCELLED, 1, 1)
    (line,) = harness.lines(final.error_file_id)
    assert (line["response"], line["error"]["code"]) == (None, "batch_cancelled")  # type: ignore[index]


async def test_a_batch_whose_window_has_ended_is_expired_with_what_it_has(harness: Harness) -> None:
    batch = await harness.create(request("a"), request("b"))
    await harness.step()
    first = min(harness.jobs.waiting)
    late = harness.jobs.waiting.pop(first)
    harness.jobs.end_all()
    harness.jobs.waiting[first] = late
    harness.store.pass_time(timedelta(days=1))
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed) == (BatchState.EXPIRED, 1, 1)
    assert {line["error"]["code"] for line in harness.lines(final.error_file_id)} == {"batch_expired"}  # type: ignore[index]


async def test_quarantined_requests_do_not_keep_a_batch_from_ending(harness: Harness) -> None:
    batch = await harness.create(request("a"), request("b"))
    await harness.step()
    job_id = min(harness.jobs.waiting)
    harness.jobs.quarantined[job_id] = harness.jobs.waiting.pop(job_id)
    harness.jobs.end_all()
    await harness.step()

    final = await harness.read(batch)
    assert (final.state, final.completed, final.failed) == (BatchState.COMPLETED, 1, 1)
    assert harness.lines(final.error_file_id)[0]["error"]["code"] == "job_dropped"  # type: ignore[index]


async def test_files_are_written_under_the_same_ids_when_the_process_dies_before_the_end(harness: Harness) -> None:
    batch = await harness.create(request("a"))
    await harness.step()
    harness.jobs.end_all()
    (claim,) = await harness.store.claim_due(1, timedelta(seconds=30))
    await harness.store.begin_finalizing(claim)
    run = RunBatch(harness.store, harness.files, harness.jobs, harness.limits)
    await run._write(claim.batch, "output", _one(b"{}\n"))

    harness.store.pass_time(timedelta(minutes=1))
    await harness.step()

    final = await harness.read(batch)
    assert final.state is BatchState.COMPLETED
    assert len([file for file, purpose in harness.files.purposes.items() if purpose == "batch_output"]) == 1


async def _one(piece: bytes):  # type: ignore[no-untyped-def]
    yield piece
