"""The ports of batches, in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.tenancy import Principal
from orchestrator.batches.model import (
    FINAL_STATES,
    Batch,
    BatchCancelled,
    BatchFinished,
    BatchIdReused,
    BatchLeaseLost,
    BatchLimitReached,
    BatchNotFound,
    BatchState,
    Line,
    LineError,
    NewBatch,
    line_job_id,
)
from orchestrator.batches.ports import BatchClaim, BatchFiles, InputFile, JobResult

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Stored:
    batch: Batch
    due_at: datetime
    epoch: int = 0
    line_errors: dict[int, LineError] = field(default_factory=dict)


class FakeBatchStore:
    """Batches in memory; time passes by `pass_time` only."""

    def __init__(self) -> None:
        self.now = START
        self.stored: dict[tuple[str, str], Stored] = {}
        self.finished_events: list[Batch] = []

    def pass_time(self, time: timedelta) -> None:
        self.now += time

    async def create(self, principal: Principal, new: NewBatch, window: timedelta, max_unfinished: int) -> Batch:
        key = (principal.tenant_id, new.batch_id)
        if key not in self.stored:
            mine = [one for (tenant, _), one in self.stored.items() if tenant == principal.tenant_id]
            if sum(one.batch.finished_at is None for one in mine) >= max_unfinished:
                raise BatchLimitReached("wait until one is finished")
            self.stored[key] = Stored(_new(principal, new, self.now, window), self.now)
        batch = self._read(key)
        if (batch.endpoint, batch.input_file_id, batch.metadata) != (new.endpoint, new.input_file_id, new.metadata):
            raise BatchIdReused("another batch")
        return batch

    async def get(self, tenant_id: str, batch_id: str) -> Batch:
        if (tenant_id, batch_id) not in self.stored:
            raise BatchNotFound("there is no such batch")
        return self._read((tenant_id, batch_id))

    async def list_batches(self, tenant_id: str, *, limit: int, after: str) -> list[Batch]:
        keys = sorted((key for key in self.stored if key[0] == tenant_id), reverse=True)
        return [self._read(key) for key in keys if not after or key[1] < after][:limit]

    async def request_cancel(self, tenant_id: str, batch_id: str) -> Batch:
        batch = await self.get(tenant_id, batch_id)
        if batch.state in FINAL_STATES:
            raise BatchFinished("it is final")
        state = batch.state if batch.state is BatchState.FINALIZING else BatchState.CANCELLING
        one = self.stored[tenant_id, batch_id]
        one.batch = replace(batch, state=state, cancelling_at=batch.cancelling_at or self.now)
        one.due_at = min(one.due_at, self.now + timedelta(seconds=1))
        return one.batch

    async def claim_due(self, limit: int, lease: timedelta) -> list[BatchClaim]:
        due = [key for key, one in self.stored.items() if one.due_at <= self.now and one.batch.finished_at is None]
        claims = []
        for key in due[:limit]:
            one = self.stored[key]
            one.epoch, one.due_at = one.epoch + 1, self.now + lease
            one.batch = replace(one.batch, crashes=one.batch.crashes + 1)
            claims.append(BatchClaim(self._read(key), one.epoch))
        return claims

    async def extend(self, claim: BatchClaim, lease: timedelta) -> None:
        self._fenced(claim).due_at = self.now + lease

    async def release(self, claim: BatchClaim, delay: timedelta) -> None:
        one = self._change(claim, crashes=0)
        one.due_at = self.now + delay

    async def start(self, claim: BatchClaim, total: int) -> Batch:
        state = self._fenced(claim).batch.state
        state = BatchState.IN_PROGRESS if state is BatchState.VALIDATING else state
        self._change(claim, total=total, in_progress_at=self.now, state=state, crashes=0)
        return await self.get(claim.batch.tenant_id, claim.batch.batch_id)

    async def record_lines(
        self, claim: BatchClaim, lines_read: int, errors: Sequence[LineError], lease: timedelta, *, last: bool
    ) -> None:
        one = self._change(claim, lines_read=lines_read, submitted=last, crashes=0)
        one.due_at = self.now + lease
        for error in errors:
            one.line_errors.setdefault(error.line, error)

    async def begin_finalizing(self, claim: BatchClaim) -> None:
        begun = self._fenced(claim).batch.finalizing_at
        self._change(claim, state=BatchState.FINALIZING, finalizing_at=begun or self.now)

    async def line_errors(self, tenant_id: str, batch_id: str, *, after: int, limit: int) -> list[LineError]:
        errors = self.stored[tenant_id, batch_id].line_errors
        return [errors[line] for line in sorted(errors) if line > after][:limit]

    async def fail(self, claim: BatchClaim, errors: Sequence[LineError], files: BatchFiles | None = None) -> None:
        changes = {"state": BatchState.FAILED, "errors": tuple(errors), **(files or BatchFiles())._asdict()}
        self.finished_events.append(self._change(claim, finished_at=self.now, **changes).batch)

    async def finish(self, claim: BatchClaim, state: BatchState, files: BatchFiles) -> None:
        one = self._change(claim, state=state, finished_at=self.now, **files._asdict())
        self.finished_events.append(one.batch)

    def _read(self, key: tuple[str, str]) -> Batch:
        batch = self.stored[key].batch
        failed = batch.failed if batch.finished_at is not None else len(self.stored[key].line_errors)
        return replace(batch, overdue=batch.expires_at <= self.now, failed=failed)

    def _fenced(self, claim: BatchClaim) -> Stored:
        one = self.stored[claim.batch.tenant_id, claim.batch.batch_id]
        if one.epoch != claim.epoch or one.batch.finished_at is not None:
            raise BatchLeaseLost("claimed by another")
        return one

    def _change(self, claim: BatchClaim, **changes: object) -> Stored:
        one = self._fenced(claim)
        one.batch = replace(one.batch, **changes)  # type: ignore[arg-type]  # names of fields
        return one


class FakeBatchJobs:
    """Jobs of batches in memory: a test ends them."""

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        """The custom id of each job that has not ended, by its id."""
        self.ended: dict[str, JobResult] = {}
        self.quarantined: dict[str, str] = {}
        self.refused: dict[str, ArgosyError] = {}
        """Errors of submissions by custom id."""
        self.failure: ArgosyError | None = None
        self.submissions: list[int] = []

    async def submit(self, batch: Batch, lines: Sequence[Line]) -> list[ArgosyError | None]:
        if self.failure is not None:
            raise self.failure
        self.submissions.append(len(lines))
        return [self._submit(batch, line) for line in lines]

    def _submit(self, batch: Batch, line: Line) -> ArgosyError | None:
        assert line.custom_id is not None
        job_id = line_job_id(batch.batch_id, line.number)
        if line.custom_id in self.refused:
            return self.refused[line.custom_id]
        if job_id not in self.ended:
            self.waiting[job_id] = line.custom_id
        return None

    async def unfinished(self, tenant_id: str, batch_id: str) -> bool:
        return bool(self.waiting)

    async def cancel(self, tenant_id: str, batch_id: str) -> None:
        self.end_all(BatchCancelled("cancelled"))

    async def drop_quarantined(self, tenant_id: str, batch_id: str) -> None:
        self.waiting |= self.quarantined
        self.quarantined.clear()
        self.end_all(RemoteError(Kind.INTERNAL, "JOB_DROPPED", "its workers died"))

    async def results(self, tenant_id: str, batch_id: str, *, after: str, limit: int) -> list[JobResult]:
        return [self.ended[job_id] for job_id in sorted(self.ended) if job_id > after][:limit]

    def end_all(self, error: ArgosyError | None = None) -> None:
        """End all waiting jobs, with an answer or with an error."""
        for job_id, custom_id in self.waiting.items():
            result = None if error else b'{"answer": "%b"}' % custom_id.encode()
            self.ended[job_id] = JobResult(job_id, custom_id, f"{job_id}.2", result, error)
        self.waiting.clear()


class FakeFileStore:
    """Files in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.purposes: dict[str, str] = {}
        self.uploads = 0

    def put(self, file_id: str, content: bytes, purpose: str = "batch") -> None:
        self.contents[file_id], self.purposes[file_id] = content, purpose

    async def find(self, principal: Principal, file_id: str) -> InputFile:
        if file_id not in self.contents:
            raise RemoteError(Kind.NOT_FOUND, "FILE_NOT_FOUND", "there is no such file", param="file_id")
        return InputFile(file_id, self.purposes[file_id], len(self.contents[file_id]))

    async def download(self, principal: Principal, file_id: str) -> AsyncGenerator[bytes, None]:
        await self.find(principal, file_id)
        content = self.contents[file_id]
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    async def upload(self, principal: Principal, file_id: str, filename: str, content: AsyncIterator[bytes]) -> None:
        self.uploads += 1
        if file_id not in self.contents:
            self.put(file_id, b"".join([piece async for piece in content]), "batch_output")
            self.names[file_id] = filename


def _new(principal: Principal, new: NewBatch, now: datetime, window: timedelta) -> Batch:
    return Batch(
        principal=replace(principal, roles=frozenset({"service"})),
        batch_id=new.batch_id,
        endpoint=new.endpoint,
        input_file_id=new.input_file_id,
        completion_window=new.completion_window,
        metadata=dict(new.metadata),
        state=BatchState.VALIDATING,
        total=0,
        lines_read=0,
        submitted=False,
        completed=0,
        failed=0,
        output_file_id="",
        error_file_id="",
        errors=(),
        created_at=now,
        in_progress_at=None,
        finalizing_at=None,
        finished_at=None,
        cancelling_at=None,
        expires_at=now + window,
    )
