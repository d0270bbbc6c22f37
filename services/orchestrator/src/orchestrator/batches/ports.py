"""What batches need: their table, their files, and the jobs of their requests."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from chassis.errors import ArgosyError
from chassis.tenancy import Principal

from orchestrator.batches.model import Batch, BatchState, Line, LineError, NewBatch


class BatchClaim(NamedTuple):
    """The right to move a batch on, until its lease ends; `epoch` fences all writes."""

    batch: Batch
    epoch: int


class BatchStore(Protocol):
    """The tables of batches. Methods with a claim raise `BatchLeaseLost` when another process has claimed the batch."""

    async def create(self, principal: Principal, new: NewBatch, window: timedelta, max_unfinished: int) -> Batch:
        """Write a batch, or return the one of this id. Raises BatchIdReused, BatchLimitReached."""

    async def get(self, tenant_id: str, batch_id: str) -> Batch:
        """Raises BatchNotFound."""

    async def list_batches(self, tenant_id: str, *, limit: int, after: str) -> list[Batch]:
        """Return at most `limit` batches that are older than `after`, the newest first."""

    async def request_cancel(self, tenant_id: str, batch_id: str) -> Batch:
        """Note that the batch is to be cancelled, and make it due. Raises BatchNotFound, BatchFinished."""

    async def claim_due(self, limit: int, lease: timedelta) -> list[BatchClaim]:
        """Claim batches that are due, of all tenants; without the counts of their requests."""

    async def extend(self, claim: BatchClaim, lease: timedelta) -> None:
        """Move the end of the lease."""

    async def release(self, claim: BatchClaim, delay: timedelta) -> None:
        """End the lease; the batch is due again after `delay`."""

    async def start(self, claim: BatchClaim, total: int) -> Batch:
        """Note how many requests the file has: the batch is in progress."""

    async def record_lines(
        self, claim: BatchClaim, lines_read: int, errors: Sequence[LineError], lease: timedelta, *, last: bool
    ) -> None:
        """Note that all lines up to `lines_read` are jobs, or among `errors`; move the end of the lease."""

    async def begin_finalizing(self, claim: BatchClaim) -> None:
        """Note that the files are being written."""

    async def line_errors(self, tenant_id: str, batch_id: str, *, after: int, limit: int) -> list[LineError]:
        """Return the errors of lines after line `after`, in their order."""

    async def fail(self, claim: BatchClaim, errors: Sequence[LineError], files: "BatchFiles | None" = None) -> None:
        """Finish a batch whose file cannot be run, or that cannot go on: then with what it has."""

    async def finish(self, claim: BatchClaim, state: BatchState, files: "BatchFiles") -> None:
        """Finish a batch, and write the event `BatchFinished` in the same transaction."""


class BatchFiles(NamedTuple):
    """The files of a final batch, and its counts; an empty id is a file that was not written."""

    output_file_id: str = ""
    error_file_id: str = ""
    completed: int = 0
    failed: int = 0


class JobResult(NamedTuple):
    """The end of a request's job."""

    job_id: str
    custom_id: str
    request_id: str
    result: bytes | None
    """The JSON body of its answer; None when it failed."""
    error: ArgosyError | None = None


class BatchJobs(Protocol):
    """The jobs of a batch's requests."""

    async def submit(self, batch: Batch, lines: Sequence[Line]) -> list[ArgosyError | None]:
        """Make a job of each line; return for each the error of a request that is refused. Safe to repeat.

        Raises Unavailable, and nothing else: then none, some or all of them may be jobs.
        """

    async def unfinished(self, tenant_id: str, batch_id: str) -> bool:
        """Whether a job of the batch waits or runs. Quarantined ones do neither."""

    async def cancel(self, tenant_id: str, batch_id: str) -> None:
        """Cancel all that wait, and ask for the cancellation of those that run. Safe to repeat."""

    async def drop_quarantined(self, tenant_id: str, batch_id: str) -> None:
        """Finish quarantined jobs as failed, so that the batch can end."""

    async def results(self, tenant_id: str, batch_id: str, *, after: str, limit: int) -> list[JobResult]:
        """Return finished jobs after the id `after`, in the order of their lines."""


class InputFile(NamedTuple):
    """A stored file."""

    file_id: str
    purpose: str
    size_bytes: int


class FileStore(Protocol):
    """Files of a tenant, on behalf of a principal."""

    async def find(self, principal: Principal, file_id: str) -> InputFile:
        """Raises FILE_NOT_FOUND, Unavailable."""

    def download(self, principal: Principal, file_id: str) -> AsyncGenerator[bytes, None]:
        """Read its bytes in order. Raises FILE_NOT_FOUND, Unavailable."""

    async def upload(self, principal: Principal, file_id: str, filename: str, content: AsyncIterator[bytes]) -> None:
        """Store a file of purpose `batch_output` under an id of the caller's choice. Safe to repeat.

        A file of this id that exists stays as it is. Raises Unavailable.
        """
