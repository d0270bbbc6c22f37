"""The gRPC service over fake upstreams, and a stub to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from argosy.inference.v1 import inference_pb2
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from chassis.clock import SystemClock
from chassis.tenancy import Caller, as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from inference_worker.breakers.circuits import Circuits
from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.embeddings.run import EmbedRun
from inference_worker.grpc import registration
from inference_worker.plans.grpc import PlanMethods
from inference_worker.plans.run import PlanRun
from inference_worker.rerank.grpc import RerankMethods
from inference_worker.rerank.run import RerankRun
from inference_worker.token_counting.tiktoken import load_token_bytes
from inference_worker.upstreams.grpc import UpstreamMethods
from values.protos import duration_to_proto
from worker_fakes import FakeEmbedder, FakeObserver, FakeProvider, FakeReranker, an_upstream

if TYPE_CHECKING:
    from argosy.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

CALLER = a_caller()


class ServedWorker:
    def __init__(self, max_in_flight: int = 10) -> None:
        self.provider, self.embedder, self.observer = FakeProvider(), FakeEmbedder(), FakeObserver()
        self.reranker = FakeReranker()
        self.rejected = 0
        upstreams = {"fake": an_upstream(self.provider, self.embedder, reranker=self.reranker)}
        clock = SystemClock()
        limit = ConcurrencyLimit(max_in_flight, self._count_rejected)
        plans = PlanMethods(partial(PlanRun, upstreams=upstreams, clock=clock, observer=self.observer), limit)
        embeddings = EmbeddingMethods(
            partial(
                EmbedRun, upstreams=upstreams, clock=clock, observer=self.observer, load_token_bytes=load_token_bytes
            ),
            limit,
        )
        one_call: dict[str, Any] = {"upstreams": upstreams, "clock": clock, "observer": self.observer}
        rerank = RerankMethods(partial(RerankRun, **one_call), limit)
        self.circuits = Circuits()
        named = UpstreamMethods(upstreams, self.circuits, clock.monotonic)
        self.registration = registration(plans, embeddings, rerank, named)

    def _count_rejected(self) -> None:
        self.rejected += 1

    @asynccontextmanager
    async def serve(self, caller: Caller | None = CALLER) -> AsyncIterator["InferenceServiceAsyncStub"]:
        """Serve, and call as `caller`, or without a principal."""
        with as_caller(caller) if caller else nullcontext():
            async with serving(self.registration) as channel:
                yield cast("InferenceServiceAsyncStub", InferenceServiceStub(channel))


def an_embed_request(model: str = "instant") -> inference_pb2.EmbedRequest:
    return inference_pb2.EmbedRequest(
        candidates=[inference_pb2.Candidate(upstream="fake", model=model)],
        inputs=["a b", "c"],
        deadline=duration_to_proto(timedelta(seconds=60)),
    )


def a_rerank_request(model: str = "instant") -> inference_pb2.RerankRequest:
    return inference_pb2.RerankRequest(
        candidates=[inference_pb2.Candidate(upstream="fake", model=model)],
        query="a ship",
        documents=["an invoice", "a ship sails"],
        deadline=duration_to_proto(timedelta(seconds=60)),
    )
