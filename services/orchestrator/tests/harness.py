"""The orchestrator's domain among fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from chassis.tenancy import Principal
from chassis.testing import FakeClock, a_principal
from orchestrator.adapters.bodies import OrjsonBodies
from orchestrator.domain.embed import Embedded, Embeddings
from orchestrator.domain.generate import Begun, Done, Generations, Step
from orchestrator.domain.policy import Policy
from orchestrator.domain.ports import Finished, Payloads
from orchestrator.domain.record import Recorder
from orchestrator.domain.request import ChatRequest, EmbedRequest
from orchestrator.domain.reserve import Reserves
from orchestrator.domain.tasks import Tasks
from orchestrator.domain.usage import Attempt, RequestUsage, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import FakeMetering, FakeRetrieval, FakeRoutes, FakeUsageLog, FakeWorker

POLICY = Policy(
    default_deadline=timedelta(minutes=5),
    longest_deadline=timedelta(minutes=30),
    lease=timedelta(minutes=10),
    first_byte=timedelta(seconds=60),
    whole_answer=timedelta(seconds=240),
    idle=timedelta(seconds=30),
    reserve=timedelta(seconds=5),
    search=timedelta(seconds=10),
    passages=4,
    context_bytes=4_000,
    hang_up=timedelta(seconds=30),
    waiting_bytes=1_000,
    plan_bytes=1_000_000,
    embedding_bytes=10_000,
)

HELLO = {"model": "smollm2", "messages": [{"role": "user", "content": "Who sails an argosy?"}]}


def reported(read: int, written: int) -> TokenUsage:
    return TokenUsage(UsageSource.REPORTED, read, written)


def an_account(*usages: TokenUsage, candidates: tuple[int, ...] | None = None, **more: Any) -> Finished:
    """An account of attempts with these usages; the candidates in order unless the test says otherwise."""
    pairs = zip(candidates or range(len(usages)), usages, strict=True)
    return Finished(tuple(Attempt(number, place, usage) for number, (place, usage) in enumerate(pairs, 1)), **more)


@dataclass
class World:
    """Fakes, and the use cases among them."""

    worker: FakeWorker = field(default_factory=FakeWorker)
    metering: FakeMetering = field(default_factory=FakeMetering)
    retrieval: FakeRetrieval = field(default_factory=FakeRetrieval)
    routes: FakeRoutes = field(default_factory=FakeRoutes)
    policy: Policy = POLICY
    patience: timedelta = timedelta(seconds=60)
    most_tasks: int = 100
    principal: Principal = field(default_factory=a_principal)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.log = FakeUsageLog()
        self.crashes: list[BaseException] = []
        self.pauses: list[float] = []
        self.on_pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.tasks = Tasks(self.most_tasks, self.crashes.append)
        self.recorder = Recorder(self.log, self.tasks, self.patience, self._pause)
        reserves = Reserves(metering=self.metering, recorder=self.recorder, tasks=self.tasks, policy=self.policy)
        shared: dict[str, Any] = {
            "routes": self.routes,
            "reserves": reserves,
            "worker": self.worker,
            "recorder": self.recorder,
            "tasks": self.tasks,
            "clock": self.clock,
            "policy": self.policy,
        }
        self.generations = Generations(bodies=OrjsonBodies(), retrieval=self.retrieval, **shared)
        self.embeddings = Embeddings(**shared)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.on_pause()

    def request(self, body: object = None, **more: Any) -> ChatRequest:
        body = HELLO if body is None else body
        rendered = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = ChatRequest("req_1", self.principal, "smollm2", rendered, stream=True)
        return replace(request, **more)

    async def generate(self, body: object = None, **more: Any) -> list[Step]:
        """Listen to the end."""
        async with aclosing(self.generations.generate(self.request(body, **more))) as steps:
            return [step async for step in steps]

    async def embed(self, *inputs: str, **more: Any) -> Embedded:
        request = EmbedRequest("req_1", self.principal, "all-minilm-l6-v2", inputs)
        return await self.embeddings.embed(replace(request, **more))

    @property
    async def usage(self) -> RequestUsage:
        """The one event that was recorded, once nothing runs any more."""
        await self.tasks.idle()
        (usage,) = self.log.recorded
        return usage

    def sent(self, candidate: int = 0) -> Any:
        """The body that the worker was given."""
        return json.loads(self.worker.plans[-1].candidates[candidate].body)


def payloads_of(steps: list[Step]) -> list[bytes]:
    return [payload for step in steps if isinstance(step, Payloads) for payload in step.payloads]


def begun_of(steps: list[Step]) -> Begun:
    first = steps[0]
    assert isinstance(first, Begun)
    return first


def done_of(steps: list[Step]) -> Done:
    last = steps[-1]
    assert isinstance(last, Done)
    return last
