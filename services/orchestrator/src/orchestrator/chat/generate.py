"""Answers a chat completion: prepare, infer, finalize."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from chassis.clock import Clock

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.finalize import finalize
from orchestrator.chat.infer import Disconnects, infer
from orchestrator.chat.model import ChatEvent, ChatRequest, Finished
from orchestrator.chat.prepare import Draft, Prepared, draft_chat, reserve_draft
from orchestrator.chat.run import Run, cached_events
from orchestrator.chat.stream import StreamBuffer
from orchestrator.context.ports import RetrievalClient
from orchestrator.flags.model import Feature
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.flags.switches import is_feature_on
from orchestrator.limits import Limits
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.look_up import Lookup
from orchestrator.response_cache.model import Hit
from orchestrator.response_cache.serve import CacheUse, ChatCache
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
    cache: ChatCache | None = None

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield Started once, chunks, Finished once. An error before the first chunk is raised instead.

        Closing the generator, or cancelling its reader, aborts the plan or lets it run to its end, by policy; a
        background task records what was used.
        """
        key = (request.principal.tenant_id, request.request_id)
        with self.tasks.slot(key):
            draft, lookup = await self._draft(request)
            hit = None if lookup is None else lookup.hit
            cached = () if self.cache is None or hit is None else await self._give(self.cache, hit, draft)
            run = None if cached else await self._open(draft, lookup)
        if run is None:
            for event in cached:
                yield event
            return
        buffer = run.buffer
        try:
            started = False
            while True:
                received = await buffer.receive()
                if not started:
                    if isinstance(received, Finished) and received.error is not None:
                        raise received.error
                    started = True
                    yield run.started()
                if isinstance(received, Finished):
                    yield received
                    return
                yield Chunk(received)
        finally:
            buffer.disconnect()
            self.tasks.detach(run.task)

    async def _draft(self, request: ChatRequest) -> tuple[Draft, Lookup | None]:
        """Decide what is asked, and look whether the cache has the answer."""
        draft = await draft_chat(
            request,
            routes=self.routes,
            retrieval=self.retrieval,
            clock=self.clock,
            limits=self.limits,
            unknown_fields=self.unknown_fields,
            flags=self.flags,
        )
        use = None if self.cache is None else self._cache_use(self.cache, draft)
        lookup = None if self.cache is None or use is None else await self._look_up(self.cache, use, draft)
        return draft, lookup

    async def _give(self, cache: ChatCache, hit: Hit, draft: Draft) -> tuple[ChatEvent, ...]:
        """Return all events of a cached answer, charged and noted for its record.

        Together: a message between services costs as much as making the answer.
        """
        request, model = draft.request, draft.route.model
        owner = (request.principal, request.request_id)
        if hit.is_free:
            await cache.pace.wait()
            return cached_events(draft, cache.charges.record_free(*owner, hit, model))
        return cached_events(draft, await cache.charges.charge(*owner, hit, model, draft.deadline))

    async def _open(self, draft: Draft, lookup: Lookup | None) -> Run:
        """Reserve, and start the task that answers by a plan."""
        request = draft.request
        run = Run(draft, StreamBuffer(self.limits.stream_buffer_bytes, stream=request.stream), lookup)
        key = (request.principal.tenant_id, request.request_id)
        try:
            prepared = await reserve_draft(
                draft,
                routes=self.routes,
                reservations=self.reservations,
                limits=self.limits,
                unknown_fields=self.unknown_fields,
            )
        except BaseException:
            run.release()
            raise
        run.soft_limit_passed = prepared.reservation.soft_limit_passed
        # There is no await between the reservation and this task, which settles it whatever happens.
        run.task = self.tasks.start(run.to_its_end(self._answer(prepared, run)), key)
        return run

    def _cache_use(self, cache: ChatCache, draft: Draft) -> CacheUse | None:
        """Return how the request uses the cache; None for one that does not. Most do not, so nothing is awaited."""
        request, flags = draft.request, self.flags.snapshot()
        if flags.has_switches and not is_feature_on(
            flags, Feature.CACHE, request.principal, request.flags, model=request.model
        ):
            return None
        return cache.use(draft.route, draft.chat.cache or request.cache)

    async def _look_up(self, cache: ChatCache, use: CacheUse, draft: Draft) -> Lookup | None:
        request, chat = draft.request, draft.chat
        return await cache.look_up(
            request.principal.tenant_id,
            draft.route,
            draft.chosen.candidates,
            chat.document,
            output_limit=chat.output_limit,
            use=use,
            deadline=draft.deadline,
            stream=request.stream,
        )

    async def _answer(self, prepared: Prepared, run: Run) -> Finished:
        request, buffer = prepared.request, run.buffer
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
            await finalize(
                *(request.principal, request.request_id, attempts, made),
                recorder=self.recorder,
                right_sizing=attempts.right_sized(request.model, made, answered=False),
            )
            raise
        self.routes.scores.learn(prepared.plan.candidates, finished.calls, stream=request.stream)
        made = finished.attempts
        right_sizing = attempts.right_sized(request.model, made, answered=run.client_got(finished))
        stale = None
        if finished.error is not None:
            stale = await run.give_stale(finished, attempts.reservation, self.cache)
        priced = await finalize(
            *(request.principal, request.request_id, attempts, made),
            recorder=self.recorder,
            cache=run.use(stale),
            stale=stale,
            right_sizing=right_sizing,
        )
        if stale is not None:
            return Finished(*priced, None, run.usage_payload, run.warnings)
        run.keep(finished, attempts)
        return Finished(*priced, finished.error, finished.usage_payload, finished.warnings)
