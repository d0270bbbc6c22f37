"""The lines of a batch's files, in OpenAI's shape."""

from collections.abc import AsyncIterator

import orjson
from chassis.errors import HTTP_STATUS, ArgosyError, Kind
from chassis.telemetry.redaction import mask_keys

from orchestrator.batches.model import Batch, BatchCancelled, BatchExpired, LineError
from orchestrator.batches.ports import BatchJobs, BatchStore, JobResult

PAGE_SIZE = 200

# Requests that were never answered: OpenAI's files have no response for them.
_UNANSWERED = frozenset({"JOB_DEADLINE_EXCEEDED", BatchCancelled.reason})


def result_line(result: JobResult) -> bytes:
    """Write the line of a request with an answer."""
    body = orjson.Fragment(_on_one_line(result.result or b"null"))
    response = {"status_code": 200, "request_id": result.request_id, "body": body}
    return _line(result.job_id, result.custom_id, response, None)


def error_line(batch: Batch, result: JobResult, error: ArgosyError) -> bytes:
    """Write the line of a request that failed."""
    line_id, custom_id, request_id = result[:3]
    if error.reason in _UNANSWERED:
        why = BatchCancelled if batch.cancelling_at is not None else BatchExpired
        return _line(line_id, custom_id, None, {"code": why.reason.lower(), "message": (why.__doc__ or "").strip()})
    message = _public(error)
    detail = {"message": message, "type": error.kind.value, "param": error.param, "code": error.code}
    response = {"status_code": HTTP_STATUS[error.kind], "request_id": request_id, "body": {"error": detail}}
    return _line(line_id, custom_id, response, {"code": error.code, "message": message})


def line_error_line(batch: Batch, error: LineError) -> bytes:
    """Write the line of a request that never became a job, with the number of its line in the file."""
    message = _public(error.error)
    detail = {"code": error.error.code, "message": message, "param": error.error.param, "line": error.line}
    return _line(f"{batch.batch_id}-{error.line}", error.custom_id, None, detail)


class BatchResults:
    """Reads the results of a batch, once for each of its files, and counts them."""

    def __init__(self, batch: Batch, jobs: BatchJobs, store: BatchStore) -> None:
        self._batch = batch
        self._jobs = jobs
        self._store = store
        self.completed = 0
        self.failed = 0

    async def count(self) -> None:
        """Count the requests with an answer and those with an error."""
        async for result in self._results():
            if result.error is None:
                self.completed += 1
            else:
                self.failed += 1
        async for _ in self._line_errors():
            self.failed += 1

    async def output(self) -> AsyncIterator[bytes]:
        """Yield the lines of requests with an answer, in the order of the file."""
        async for result in self._results():
            if result.error is None:
                yield result_line(result)

    async def errors(self) -> AsyncIterator[bytes]:
        """Yield the lines that never became jobs, then those of requests that failed."""
        async for error in self._line_errors():
            yield line_error_line(self._batch, error)
        async for result in self._results():
            if result.error is not None:
                yield error_line(self._batch, result, result.error)

    async def _results(self) -> AsyncIterator[JobResult]:
        after = ""
        while page := await self._jobs.results(
            self._batch.tenant_id, self._batch.batch_id, after=after, limit=PAGE_SIZE
        ):
            for result in page:
                yield result
            after = page[-1].job_id

    async def _line_errors(self) -> AsyncIterator[LineError]:
        after = 0
        while page := await self._store.line_errors(
            self._batch.tenant_id, self._batch.batch_id, after=after, limit=PAGE_SIZE
        ):
            for error in page:
                yield error
            after = page[-1].line


def _on_one_line(answer: bytes) -> bytes:
    """Return an answer as one line of JSON: some upstreams break theirs, and a few send what is none.

    Between the tokens of JSON a line break is a space, and inside of them there is none.
    """
    try:
        orjson.loads(answer)
    except orjson.JSONDecodeError:
        return orjson.dumps(answer.decode(errors="replace"))
    return answer.replace(b"\r", b" ").replace(b"\n", b" ")


def _public(error: ArgosyError) -> str:
    """Return what the synchronous door says: no keys, and of a bug nothing."""
    return "something went wrong on our side" if error.kind is Kind.INTERNAL else mask_keys(error.message)


def _line(line_id: str, custom_id: str | None, response: object, error: object) -> bytes:
    content = {"id": f"batch_req_{line_id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
