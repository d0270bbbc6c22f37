"""The gRPC service: delegates each method to its feature."""

from collections.abc import Awaitable
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import (
    OrchestrationServiceServicer,
    add_OrchestrationServiceServicer_to_server,
)
from chassis.grpc import Registration

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.grpc import generate
from orchestrator.embeddings.embed import Embeddings
from orchestrator.embeddings.grpc import UnreadVectors, embed, embed_in_pieces
from orchestrator.flags.snapshot import FlagCache
from orchestrator.rerank.grpc import rerank
from orchestrator.rerank.rerank import Reranks
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.grpc import list_models
from orchestrator.usage.grpc import get_request_states
from orchestrator.usage.ports import RunningJobs, UsageOutbox


class OrchestrationServicer(OrchestrationServiceServicer):
    """The entry to inference. The tenant is always the caller's."""

    def __init__(
        self,
        *,
        completions: ChatCompletions,
        embeddings: Embeddings,
        reranks: Reranks,
        routes: RouteCache,
        flags: FlagCache,
        tasks: BackgroundTasks,
        outbox: UsageOutbox,
        jobs: RunningJobs,
    ) -> None:
        self._completions = completions
        self._embeddings = embeddings
        self._reranks = reranks
        self._routes = routes
        self._flags = flags
        self._tasks = tasks
        self._outbox = outbox
        self._jobs = jobs
        self._unread = UnreadVectors()

    # These are not `async`, which would put a second coroutine around that of the feature.
    def Generate(self, request: pb.GenerateRequest, context: Any) -> Awaitable[None]:  # type: ignore[override]
        return generate(self._completions, request, context)

    def Embed(self, request: pb.EmbedRequest, context: Any) -> Awaitable[pb.EmbedResponse]:
        return embed(self._embeddings, request, context)

    def EmbedInPieces(self, request: pb.EmbedInPiecesRequest, context: Any) -> Awaitable[None]:  # type: ignore[override]
        return embed_in_pieces(self._embeddings, self._unread, request, context)

    def Rerank(self, request: pb.RerankRequest, context: Any) -> Awaitable[pb.RerankResponse]:
        return rerank(self._reranks, request, context)

    def GetRequestStates(
        self, request: pb.GetRequestStatesRequest, context: Any
    ) -> Awaitable[pb.GetRequestStatesResponse]:
        return get_request_states(request, tasks=self._tasks, outbox=self._outbox, jobs=self._jobs)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return list_models(self._routes, self._flags)


def registration(servicer: OrchestrationServicer) -> Registration:
    return add_OrchestrationServiceServicer_to_server, servicer, "argosy.orchestration.v1.OrchestrationService"
