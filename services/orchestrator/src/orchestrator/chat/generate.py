"""Answers a chat completion: prepare, infer, finalize."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from chassis.clock import Clock

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.finalize import finalize
from orchestrator.chat.infer import Disconnects, infer
from orchestrator.chat.model import ChatEvent, ChatRequest, Finished, Started
from orchestrator.chat.prepare import Prepared, prepare
from orchestrator.chat.stream import StreamBuffer
from orchestrator.context.ports import RetrievalClient
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.limits import Limits
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import UnknownFields
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.model import Chunk
from orchestrator.workers.ports import WorkerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletions:
    routes: RouteCache
    retrieval: RetrievalClient
    reservations: Reservations
    disconnects: Disconnects
    worker: WorkerClient
    recorder: UsageRecorder
    tasks: BackgroundTasks
    clock: Clock
    limits: Limits
    unknown_fields: UnknownFields = UnknownFields.DROP
    flags: FlagCache = NO_FLAGS

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield Started once, chunks, Finished once. An error before the first chunk is raised instead.

        Closing the generator, or cancelling its reader, aborts the plan or lets it run to its end, by policy; a
        background task records what was used.
        """
        key = (request.principal.tenant_id, request.request_id)
        with self.tasks.slot(key):
            prepared = await prepare(
                request,
                routes=self.routes,
                retrieval=self.retrieval,
                reservations=self.reservations,
                clock=self.clock,
                limits=self.limits,
                unknown_fields=self.unknown_fields,
                flags=self.flags,
            )
            # There is no await between the reservation and this task, which settles it whatever happens.
            buffer: StreamBuffer[Finished] = StreamBuffer(self.limits.stream_buffer_bytes, stream=request.stream)
            run = self.tasks.start(self._run(prepared, buffer), key)
        try:
            started = False
            while True:
                received = await buffer.receive()
                if not started:
                    if isinstance(received, Finished) and received.error is not None:
                        raise received.error
                    started = True
                    yield Started(prepared.sources, prepared.reservation.soft_limit_passed, prepared.warnings)
                if isinstance(received, Finished):
                    yield received
                    return
                yield Chunk(received)
        finally:
            buffer.disconnect()
            self.tasks.detach(run)

    async def _run(self, prepared: Prepared, buffer: StreamBuffer[Finished]) -> None:
        try:
            buffer.end(await self._infer_and_finalize(prepared, buffer))
        except BaseException as error:
            buffer.fail(error)
            raise

    async def _infer_and_finalize(self, prepared: Prepared, buffer: StreamBuffer[Finished]) -> Finished:
        request = prepared.request
        attempts = RequestAttempts(
            self.reservations,
            request.principal,
            request.request_id,
            prepared.reservation,
            [candidate.bound for candidate in prepared.plan.candidates],
        )
        try:
            try:
                finished = await infer(
                    prepared.plan,
                    buffer,
                    attempts,
                    worker=self.worker,
                    disconnects=self.disconnects,
                    abort_timeout=self.limits.abort_timeout,
                )
            finally:
                # Before the next await: a plan that is over cannot be stopped any more.
                buffer.close_chunks()
        except Exception:
            # A bug. A provider may have been called, so the running call is settled with unknown usage.
            made = attempts.unknown_usage()
            await finalize(request.principal, request.request_id, attempts, made, recorder=self.recorder)
            raise
        keys = [candidate.bound.price_key for candidate in prepared.plan.candidates]
        self.routes.scores.learn(keys, finished.calls, stream=request.stream)
        made = finished.attempts
        usage, cost = await finalize(request.principal, request.request_id, attempts, made, recorder=self.recorder)
        return Finished(usage, cost, finished.error, finished.usage_payload, finished.warnings)
