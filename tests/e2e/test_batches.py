"""OpenAI's Batch API through the unmodified SDK: a file of requests, some of which cannot be run."""

import asyncio
import io
import json
import time
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api"), pytest.mark.timeout(300)]

MODEL, LINES, BAD_LINES = "sim-batch", 2_000, 20
FINAL = {"completed", "failed", "expired", "cancelled"}
BAD = (
    b"{",
    b'{"custom_id": "no-url", "method": "POST", "body": {}}',
    b'{"custom_id": "0", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
)


def line(custom_id: str, **changes: Any) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": custom_id}], "max_tokens": 16} | changes
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode()


def create(client: openai.OpenAI, content: bytes, **more: Any) -> Batch:
    file = client.files.create(file=("requests.jsonl", io.BytesIO(content)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def wait(client: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 240
    while batch.status not in FINAL:
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


@pytest.fixture(scope="module")
def model(fleet: Fleet) -> None:
    asyncio.run(fleet.add_model(MODEL, upstream_model="instant"))


@pytest.mark.usefixtures("model")
def test_a_batch_with_bad_lines_answers_the_good_ones(client: openai.OpenAI) -> None:
    good = [str(number) for number in range(LINES - BAD_LINES)]
    unrouted = [line(f"unrouted-{number}", model="no-such-model") for number in range(BAD_LINES - len(BAD))]
    content = b"\n".join([*(line(custom_id) for custom_id in good), *BAD, *unrouted])
    batch = create(client, content, metadata={"job": "nightly"})
    assert batch.status == "validating"
    assert batch.metadata == {"job": "nightly"}

    batch = wait(client, batch)

    assert batch.status == "completed"
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (LINES, len(good), BAD_LINES)
    answers = lines_of(client, batch.output_file_id)
    assert sorted(answer["custom_id"] for answer in answers) == sorted(good)
    for answer in answers:
        assert answer["response"]["status_code"] == 200
        assert answer["response"]["body"]["object"] == "chat.completion"
        assert answer["error"] is None
    errors = lines_of(client, batch.error_file_id)
    assert [error["error"]["code"] for error in errors] == [
        "batch_line_invalid",
        "batch_line_invalid",
        "duplicate_custom_id",
        *["model_not_found"] * len(unrouted),
    ]
    assert [error["error"]["line"] for error in errors] == list(range(LINES - BAD_LINES + 1, LINES + 1))
    output = client.files.retrieve(batch.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert batch.id in [listed.id for listed in client.batches.list(limit=10)]


@pytest.mark.usefixtures("model")
def test_a_file_that_holds_no_request_fails_and_says_why(client: openai.OpenAI) -> None:
    batch = wait(client, create(client, b"no JSON\n"))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [error.code for error in batch.errors.data] == ["batch_file_invalid", "batch_line_invalid"]
    assert batch.errors.data[1].line == 1


@pytest.mark.usefixtures("model")
def test_what_cannot_be_a_batch_is_refused_at_once(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h")
    other = client.files.create(file=("a.txt", io.BytesIO(b"hello")), purpose="assistants")
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id=other.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert refused.value.code == "batch_file_invalid"
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


@pytest.mark.usefixtures("model")
def test_a_batch_is_cancelled_once(client: openai.OpenAI) -> None:
    batch = create(client, b"\n".join(line(str(number)) for number in range(50)))
    assert client.batches.cancel(batch.id).status in {"cancelling", "finalizing"}
    final = wait(client, batch)
    assert final.status == "cancelled"
    assert final.cancelled_at is not None
    with pytest.raises(openai.ConflictError) as refused:
        client.batches.cancel(batch.id)
    assert refused.value.code == "batch_finished"
