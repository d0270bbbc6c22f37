"""What workers report of runs: further attempts, heartbeats, the end, and runs that they hand back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chassis.errors import ArgosyError, Internal

from orchestrator.chat.finalize import price_attempts
from orchestrator.chat.model import Stopped
from orchestrator.jobs.end import RunEnds, raise_error
from orchestrator.jobs.errors import JobLeaseLost, JobResultTooLarge
from orchestrator.jobs.model import JobState, RunRef
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.ports import JobStore
from orchestrator.jobs.rounds import Offer, Room
from orchestrator.jobs.runs import Heartbeat, Run, RunEnd
from orchestrator.jobs.settle import Draw, completed, returned
from orchestrator.jobs.work import embeddings_answer
from orchestrator.reservations.attempts import AttemptLog, RequestAttempts
from orchestrator.reservations.reserve import Reservations
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import AttemptStarting

MAX_RESULT_BYTES = 96 * 1024 * 1024
"""Of an answer of vectors as text: as much as Postgres stores in one statement well within its time limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of jobs on workers."""

    store: JobStore
    ends: RunEnds
    reservations: Reservations
    policy: JobPolicy
    on_heartbeat: Callable[[str, str, int], None] = lambda _worker_id, _pool, _slots: None

    async def heartbeat(self, worker_id: str, pool: str, slots: int, runs: Sequence[RunRef]) -> Heartbeat:
        """Note that a worker lives, with its slots and runs. Raises `Unavailable`."""
        beat = await self.store.heartbeat(worker_id, pool, slots, runs, self.policy.lease)
        self.on_heartbeat(worker_id, pool, slots)
        return beat

    async def offers(self, pool: str, room: Room) -> list[Offer]:
        """Return dispatched jobs that the worker may claim. Raises `Unavailable`."""
        return await self.store.unclaimed(pool, room, self.policy.offer_after)

    async def start_attempt(self, ref: RunRef, starting: AttemptStarting) -> None:
        """Record a provider call that is about to be made; safe to repeat.

        Raises `JobLeaseLost`, `Stopped` when the job is being cancelled, and what metering raises: then the call must
        not be made.
        """
        (run,) = await self.store.running([ref])
        if run is None or run.record is None:
            raise JobLeaseLost("another run has the job, or it has ended")
        if run.job.cancel_requested:
            raise Stopped("the job is being cancelled")
        record = run.record
        if record.running == (starting.number, starting.candidate):
            return
        attempts = RequestAttempts.resumed(self.reservations, run.principal, ref.request_id, record)
        known = {one.number for one in record.ended}
        attempts.end([one for one in starting.ended if one.number not in known])
        if starting.number not in {one.number for one in record.unmade}:
            attempts.announce(starting.number, starting.candidate)
        # Before metering has it on record, so that it is released should this process die.
        await self._save(ref, attempts)
        try:
            await attempts.start()
        except ArgosyError:
            await self._save(ref, attempts)
            raise
        attempts.allow()
        await self._save(ref, attempts)

    async def complete(
        self, ref: RunRef, attempts: Sequence[Attempt], answer: bytes | Sequence[bytes] | ArgosyError
    ) -> JobState:
        """End a run with its answer, its vectors or its error; return the state of the job. Safe to repeat.

        Raises `JobLeaseLost`, `Unavailable`, and `Internal` for attempts that the plan does not have.
        """

        async def decide(run: Run, draw: Draw) -> RunEnd:
            given = answer
            if not isinstance(given, bytes | ArgosyError):
                given = await _answer(run, given, attempts)
            return completed(run, attempts, given, self.policy, draw)

        return (await self.ends.end_or_repeat(ref, decide)).state

    async def give_back(self, ref: RunRef, attempts: Sequence[Attempt]) -> None:
        """Queue a job again that its worker cannot finish; it consumes no attempt. Safe to repeat.

        Raises as `complete`.
        """

        async def decide(run: Run, draw: Draw) -> RunEnd:
            return returned(run, attempts, draw)

        await self.ends.end_or_repeat(ref, decide)

    async def _save(self, ref: RunRef, attempts: AttemptLog) -> None:
        (error,) = await self.store.save_runs([(ref, attempts.record())], self.policy.lease)
        raise_error(error)


async def _answer(run: Run, vectors: Sequence[bytes], attempts: Sequence[Attempt]) -> bytes | ArgosyError:
    if run.job.cancel_requested:
        return Stopped("the job is being cancelled")
    if run.record is None or not vectors or not run.body:
        return Internal("the worker reported the end of a run without an answer")
    _, priced = price_attempts(AttemptLog.restored(run.record), attempts)
    answer = await embeddings_answer(run.body, vectors, priced.usage.input_tokens or 0, MAX_RESULT_BYTES)
    if answer is None:
        return JobResultTooLarge(
            f"The vectors take more than {MAX_RESULT_BYTES // 2**20} MiB as text. They are billed. Ask for "
            "encoding_format base64, for fewer texts, or for fewer dimensions."
        )
    return answer
