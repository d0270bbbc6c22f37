"""Answers and errors as lines of files."""

import orjson
import pytest
from chassis.errors import Kind, RemoteError
from chassis.tenancy import Principal
from orchestrator.batches.model import Batch, LineError, NewBatch
from orchestrator.batches.ports import JobResult
from orchestrator.batches.results import error_line, line_error_line, result_line

from services.orchestrator.tests.fake_batches import START, FakeBatchStore

RESULT = JobResult("job_1", "a", "job_1.2", b"{}")


async def a_batch() -> Batch:
    new = NewBatch("batch_" + "0" * 32, "/v1/chat/completions", "file-1")
    return await FakeBatchStore().create(Principal("ten_1"), new, START - START, 1)


@pytest.mark.parametrize("answer", [b'{\n  "a": [1,\r\n 2]\n}\n', b'{"a":"\\n"}', b"no\njson", b"\xff", b""])
def test_an_answer_is_one_line_however_its_upstream_wrote_it(answer: bytes) -> None:
    line = result_line(RESULT._replace(result=answer))

    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    body = orjson.loads(line)["response"]["body"]
    try:
        assert body == orjson.loads(answer)
    except orjson.JSONDecodeError:
        assert body == (answer.decode(errors="replace") or None)


@pytest.mark.parametrize("kind", list(Kind))
async def test_an_error_of_every_kind_is_a_line(kind: Kind) -> None:
    line = orjson.loads(error_line(await a_batch(), RESULT, RemoteError(kind, "REASON", "why")))

    assert 400 <= line["response"]["status_code"] < 600
    assert line["error"]["code"] == "reason"


@pytest.mark.parametrize(
    ("kind", "message", "shown"),
    [
        (Kind.UPSTREAM, "bad key sk-0123456789abcdefghij", "bad key sk-[redacted]"),
        (Kind.INTERNAL, "line 7 of a file", "something went wrong on our side"),
    ],
)
async def test_a_line_has_no_key_and_no_bug_in_its_error(kind: Kind, message: str, shown: str) -> None:
    batch, error = await a_batch(), RemoteError(kind, "REASON", message)

    of_job = orjson.loads(error_line(batch, RESULT, error))
    of_line = orjson.loads(line_error_line(batch, LineError(1, error, "a")))

    assert [of_job["error"]["message"], of_job["response"]["body"]["error"]["message"]] == [shown, shown]
    assert of_line["error"]["message"] == shown
