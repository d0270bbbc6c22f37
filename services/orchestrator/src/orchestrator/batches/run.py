"""Moves a batch on: reads its file, makes the jobs, waits for them, writes the files."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.errors import ArgosyError, Kind

from orchestrator.batches.lines import FileLimits, read_lines
from orchestrator.batches.model import (
    MAX_LISTED_ERRORS,
    Batch,
    BatchFileInvalid,
    BatchState,
    Line,
    LineError,
    output_file_id,
)
from orchestrator.batches.ports import BatchClaim, BatchFiles, BatchJobs, BatchStore, FileStore
from orchestrator.batches.results import BatchResults

LEASE = timedelta(seconds=30)
LINES_PER_SUBMISSION = 100
POLL_DELAY = timedelta(seconds=1)
QUEUE_FULL_DELAY = timedelta(seconds=5)
QUEUE_FULL = "QUEUE_FULL"


@dataclass(frozen=True, slots=True)
class RunBatch:
    """One step of a claimed batch. A step that is cut off by a crash is done again by the next process."""

    store: BatchStore
    files: FileStore
    jobs: BatchJobs
    limits: FileLimits

    async def __call__(self, claim: BatchClaim) -> None:
        """Move the batch on as far as it goes now, and end the lease. Raises BatchLeaseLost, Unavailable."""
        await self._hold(claim, self._step(claim))

    async def give_up(self, claim: BatchClaim, error: ArgosyError) -> None:
        """End a batch that cannot go on: nothing of it runs any more, and what has an answer keeps it, where possible.

        Takes a step towards it; the batch is due again until it has ended. Raises BatchLeaseLost, Unavailable.
        """
        await self._hold(claim, self._give_up(claim, error))

    async def _hold(self, claim: BatchClaim, work: Coroutine[Any, Any, None]) -> None:
        """Extend the lease while the work takes."""
        heartbeat = asyncio.create_task(self._keep(claim))
        step = asyncio.create_task(work)
        try:
            await asyncio.wait((heartbeat, step), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                heartbeat.result()  # the lease is lost
            await step
        finally:
            for task in (heartbeat, step):
                task.cancel()
                with suppress(asyncio.CancelledError, ArgosyError):
                    await task

    async def _give_up(self, claim: BatchClaim, error: ArgosyError) -> None:
        batch, files = claim.batch, BatchFiles()
        if batch.in_progress_at is not None:
            await self.jobs.cancel(batch.tenant_id, batch.batch_id)
            if await self.jobs.unfinished(batch.tenant_id, batch.batch_id):
                await self.store.extend(claim, POLL_DELAY)
                return
            await self.jobs.drop_quarantined(batch.tenant_id, batch.batch_id)
            files = await self._rescue(batch)
        await self.store.fail(claim, [LineError(0, error)], files)

    async def _rescue(self, batch: Batch) -> BatchFiles:
        """Write the answers; whatever keeps the batch from going on may keep it from that, too."""
        results, output = BatchResults(batch, self.jobs, self.store), ""
        try:
            await results.count()
            if results.completed:
                output = await self._write(batch, "output", results.output())
        except ArgosyError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
        return BatchFiles(output, "", results.completed, results.failed)

    async def _keep(self, claim: BatchClaim) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            with suppress_unavailable():
                await self.store.extend(claim, LEASE)

    async def _step(self, claim: BatchClaim) -> None:
        batch = claim.batch
        if batch.state is BatchState.VALIDATING:
            started = await self._validate(claim)
            if started is None:
                return
            claim = BatchClaim(started, claim.epoch)
        if claim.batch.state is BatchState.CANCELLING or batch.overdue:
            await self.jobs.cancel(batch.tenant_id, batch.batch_id)
        elif not claim.batch.submitted and not await self._submit(claim):
            await self.store.release(claim, QUEUE_FULL_DELAY)
            return
        if await self.jobs.unfinished(batch.tenant_id, batch.batch_id):
            await self.store.release(claim, POLL_DELAY)
            return
        await self._finalize(claim)

    async def _validate(self, claim: BatchClaim) -> Batch | None:
        """Count the requests, before any of them runs; None for a file that cannot be run."""
        batch = claim.batch
        valid, errors, total = 0, list[LineError](), 0
        try:
            async with aclosing(self._lines(batch)) as lines:
                async for line in lines:
                    total += 1
                    if line.error is None:
                        valid += 1
                    elif len(errors) < MAX_LISTED_ERRORS:
                        errors.append(LineError(line.number, line.error, line.custom_id))
            if not valid:
                errors.insert(0, LineError(0, BatchFileInvalid("no line of the file is a request")))
        except ArgosyError as error:
            if error.kind not in (Kind.INVALID, Kind.NOT_FOUND):
                raise
            errors, valid = [LineError(0, error)], 0
        if not valid:
            await self.store.fail(claim, errors)
            return None
        return await self.store.start(claim, total)

    async def _submit(self, claim: BatchClaim) -> bool:
        """Make a job of each line that is none yet; False when the tenant's queue is full before the last one.

        The file is read from its start: ids of lines are checked again.
        """
        batch, read = claim.batch, claim.batch.lines_read
        waiting: list[Line] = []
        async with aclosing(self._lines(batch)) as lines:
            async for line in lines:
                if line.number > batch.lines_read:
                    waiting.append(line)
                if len(waiting) >= LINES_PER_SUBMISSION:
                    if not await self._submit_lines(claim, waiting, read, last=False):
                        return False
                    waiting, read = [], waiting[-1].number
        return await self._submit_lines(claim, waiting, read, last=True)

    async def _submit_lines(self, claim: BatchClaim, lines: Sequence[Line], read: int, *, last: bool) -> bool:
        """Make jobs of the lines after `read`, in their order until the queue is full; return whether it took all."""
        requests = [line for line in lines if line.error is None]
        refused = await self.jobs.submit(claim.batch, requests) if requests else []
        outcomes = {line.number: error for line, error in zip(requests, refused, strict=True)}
        errors, full = list[LineError](), False
        for line in lines:
            error = line.error or outcomes[line.number]
            if error is not None and error.reason == QUEUE_FULL:
                full = True
                break
            read = line.number
            if error is not None:
                errors.append(LineError(line.number, error, line.custom_id))
        await self.store.record_lines(claim, read, errors, LEASE, last=last and not full)
        return not full

    async def _finalize(self, claim: BatchClaim) -> None:
        """Write the files under ids that are the same for every try, and finish the batch."""
        batch = claim.batch
        await self.store.begin_finalizing(claim)
        await self.jobs.drop_quarantined(batch.tenant_id, batch.batch_id)
        results = BatchResults(batch, self.jobs, self.store)
        await results.count()
        output, errors = "", ""
        if results.completed:
            output = await self._write(batch, "output", results.output())
        if results.failed:
            errors = await self._write(batch, "error", results.errors())
        state = BatchState.COMPLETED
        if batch.cancelling_at is not None:
            state = BatchState.CANCELLED
        elif batch.overdue and results.failed:
            state = BatchState.EXPIRED
        await self.store.finish(claim, state, BatchFiles(output, errors, results.completed, results.failed))

    async def _write(self, batch: Batch, kind: str, lines: AsyncIterator[bytes]) -> str:
        file_id = output_file_id(batch.batch_id, kind)
        await self.files.upload(batch.principal, file_id, f"{batch.batch_id}_{kind}.jsonl", lines)
        return file_id

    async def _lines(self, batch: Batch) -> AsyncGenerator[Line, None]:
        async with aclosing(self.files.download(batch.principal, batch.input_file_id)) as pieces:
            async for line in read_lines(pieces, batch.endpoint, self.limits):
                yield line


class suppress_unavailable(suppress):  # noqa: N801 - reads as a statement
    """Go on when a store does not answer: the lease is extended again later."""

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, ArgosyError) and error.kind is Kind.UNAVAILABLE
