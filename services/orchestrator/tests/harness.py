"""The use cases of the orchestrator, wired with fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.errors import ArgosyError
from chassis.tenancy import Principal, as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.infer import Disconnects
from orchestrator.chat.model import ChatEvent, ChatRequest, Finished, Started
from orchestrator.embeddings.embed import Embeddings, PricedEmbeddings
from orchestrator.embeddings.prepare import EmbedRequest
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.grpc import OrchestrationServicer
from orchestrator.limits import Limits
from orchestrator.rerank.prepare import RerankRequest
from orchestrator.rerank.rerank import PricedScores, Reranks
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.charge import CacheCharges
from orchestrator.response_cache.charge_together import GroupedCharges
from orchestrator.response_cache.look_up import CacheLimits, ResponseCache
from orchestrator.response_cache.model import CachePolicy
from orchestrator.response_cache.semantic import SemanticCache
from orchestrator.response_cache.serve import ChatCache
from orchestrator.routing.choose import RouteCache, RouteTable
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import Attempt, RequestUsage
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.model import Chunk
from orchestrator.workers.model import Finished as WorkerFinished
from values.embeddings import EmbeddingInput
from values.usage import TokenUsage, UsageSource

from services.orchestrator.tests.fake_answers import FakeAnswerStore
from services.orchestrator.tests.fake_prompt_index import FakePromptIndex
from services.orchestrator.tests.fakes import (
    DEMO_ROUTES,
    FakeMeteringClient,
    FakeRetrievalClient,
    FakeRouteStore,
    FakeUsageOutbox,
    FakeWorkerClient,
    NoRunningJobs,
)

LIMITS = Limits(
    default_deadline=timedelta(minutes=5),
    max_deadline=timedelta(minutes=30),
    reservation_lease=timedelta(minutes=10),
    first_byte_timeout=timedelta(seconds=60),
    non_streamed_timeout=timedelta(seconds=240),
    idle_timeout=timedelta(seconds=30),
    reserve_timeout=timedelta(seconds=5),
    retrieval_timeout=timedelta(seconds=10),
    abort_timeout=timedelta(seconds=30),
    default_passages=4,
    max_context_bytes=4_000,
    stream_buffer_bytes=1_000,
    max_plan_bytes=1_000_000,
    max_embedding_bytes=10_000,
)

HELLO = {"model": "smollm2", "messages": [{"role": "user", "content": "Who sails an argosy?"}]}


def reported(input_tokens: int, output_tokens: int) -> TokenUsage:
    return TokenUsage(UsageSource.REPORTED, input_tokens, output_tokens)


def worker_finished(
    *usages: TokenUsage,
    candidates: tuple[int, ...] | None = None,
    error: ArgosyError | None = None,
    usage_payload: bytes = b"",
) -> WorkerFinished:
    """Make the end of a plan with these attempts; their candidates in order unless the test gives them."""
    pairs = zip(candidates or range(len(usages)), usages, strict=True)
    attempts = tuple(Attempt(number, index, usage) for number, (index, usage) in enumerate(pairs, 1))
    return WorkerFinished(attempts, error, usage_payload)


@dataclass
class Harness:
    """Fakes, and the use cases between them."""

    worker: FakeWorkerClient = field(default_factory=FakeWorkerClient)
    metering: FakeMeteringClient = field(default_factory=FakeMeteringClient)
    retrieval: FakeRetrievalClient = field(default_factory=FakeRetrievalClient)
    routes: RouteTable = DEMO_ROUTES
    limits: Limits = LIMITS
    usage_timeout: timedelta = timedelta(seconds=60)
    max_tasks: int = 100
    flags: FlagCache = NO_FLAGS
    principal: Principal = field(default_factory=a_principal)
    policy: CachePolicy | None = None
    """With it, requests use a cache over `answers`."""
    max_entry_bytes: int = 100_000
    max_wait: timedelta = timedelta(seconds=60)
    semantic_timeout: timedelta = timedelta(seconds=60)
    prompts: FakePromptIndex = field(default_factory=FakePromptIndex)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.outbox = FakeUsageOutbox()
        self.crashes: list[BaseException] = []
        self.pauses: list[float] = []
        self.on_pause: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
        self.tasks = BackgroundTasks(self.max_tasks, self.crashes.append)
        self.recorder = UsageRecorder(self.outbox, self.tasks, self.usage_timeout, self._pause)
        cache = RouteCache(FakeRouteStore(self.routes), self.clock, self.routes)
        shared: dict[str, Any] = {
            "routes": cache,
            "reservations": Reservations(
                metering=self.metering, recorder=self.recorder, tasks=self.tasks, limits=self.limits
            ),
            "worker": self.worker,
            "recorder": self.recorder,
            "tasks": self.tasks,
            "clock": self.clock,
            "limits": self.limits,
            "flags": self.flags,
        }
        self.disconnects = Disconnects(self.limits)
        self.answers = FakeAnswerStore(self.clock)
        self.completions = ChatCompletions(
            retrieval=self.retrieval, disconnects=self.disconnects, cache=self.chat_cache(shared), **shared
        )
        self.embeddings = Embeddings(**shared)
        self.reranks = Reranks(**shared)
        self.servicer = OrchestrationServicer(
            completions=self.completions,
            embeddings=self.embeddings,
            reranks=self.reranks,
            routes=cache,
            flags=self.flags,
            tasks=self.tasks,
            outbox=self.outbox,
            jobs=NoRunningJobs(),
        )

    def chat_cache(self, shared: dict[str, Any]) -> ChatCache | None:
        """Make the cache of a replica."""
        policy = self.policy
        if policy is None:
            return None
        cache = ResponseCache(self.answers, CacheLimits(self.max_entry_bytes, self.max_wait))
        semantic = SemanticCache(
            self.prompts, self.semantic_timeout, lambda work: self.tasks.start(work, ("", "")), self.prompts.fail
        )
        hits = HitRecorder(self.outbox, self.tasks, self._pause)
        timeout = self.limits.reserve_timeout
        together = GroupedCharges(self.metering, self.recorder, hits, self.tasks, timeout)
        charges = CacheCharges(shared["reservations"], self.recorder, hits, together)
        return ChatCache(cache, lambda _: policy, charges, semantic)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.on_pause()

    def request(self, body: object = None, **changes: Any) -> ChatRequest:
        body = HELLO if body is None else body
        rendered = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = ChatRequest("req_1", self.principal, "smollm2", rendered, stream=True)
        return replace(request, **changes)

    async def generate(self, body: object = None, **changes: Any) -> list[ChatEvent]:
        """Read an answer to its end."""
        async with aclosing(self.completions.generate(self.request(body, **changes))) as events:
            return [event async for event in events]

    async def embed(self, *inputs: EmbeddingInput, **changes: Any) -> PricedEmbeddings:
        return await self.embeddings.embed(replace(self.embed_request(*inputs), **changes))

    async def rerank(self, query: str, *documents: str, **changes: Any) -> PricedScores:
        request = RerankRequest("req_1", self.principal, "overlap", query, documents)
        return await self.reranks.rerank(replace(request, **changes))

    async def list_models(self) -> list[str]:
        """Return the names that the principal sees."""
        with as_caller(a_caller(self.principal)):
            response = await self.servicer.ListModels(pb.ListModelsRequest(), None)
        return [model.name for model in response.models]

    def embed_request(self, *inputs: EmbeddingInput) -> EmbedRequest:
        return EmbedRequest("req_1", self.principal, "all-minilm-l6-v2", inputs)

    @property
    async def usage(self) -> RequestUsage:
        """The one event that was recorded, once no task runs."""
        await self.tasks.wait_idle()
        (usage,) = self.outbox.written
        return usage

    def sent(self, candidate: int = 0) -> Any:
        """The body that the worker received."""
        return json.loads(self.worker.plans[-1].candidates[candidate].body)


def payloads_of(events: list[ChatEvent]) -> list[bytes]:
    return [payload for event in events if isinstance(event, Chunk) for payload in event.payloads]


def started_of(events: list[ChatEvent]) -> Started:
    first = events[0]
    assert isinstance(first, Started)
    return first


def finished_of(events: list[ChatEvent]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last
