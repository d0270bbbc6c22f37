"""Embeddings from an orchestrator over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from argosy.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from chassis.errors import ArgosyError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller, current_caller
from chassis.testing import a_caller, a_principal, free_port
from chassis.testing.grpc import serving
from retrieval.embeddings.model import DIMENSIONS, IncompatibleEmbedding
from retrieval.embeddings.orchestrator_client import OrchestratorEmbedder
from retrieval.ingestion.model import is_transient

from services.retrieval.tests.texts import a_vector


class Orchestrator(orchestration_pb2_grpc.OrchestrationServiceServicer):
    def __init__(self, width: int = DIMENSIONS) -> None:
        self.width = width
        self.requests: list[tuple[str, orchestration_pb2.EmbedRequest]] = []

    Embed = Generate = Rerank = ListModels = GetRequestStates = None  # type: ignore[assignment]  # not called

    async def EmbedInPieces(
        self, request: orchestration_pb2.EmbedInPiecesRequest, context: Any
    ) -> AsyncIterator[orchestration_pb2.EmbedInPiecesResponse]:
        for vector in self.embed(request.request):
            piece = orchestration_pb2.EmbedResponse(vectors=[vector])
            yield orchestration_pb2.EmbedInPiecesResponse(piece=piece)

    def embed(self, request: orchestration_pb2.EmbedRequest) -> list[orchestration_pb2.Vector]:
        self.requests.append((current_caller().principal.tenant_id, request))
        return [orchestration_pb2.Vector(float32=a_vector(text)[: self.width * 4]) for text in request.inputs]


class OlderOrchestrator(Orchestrator):
    """One of the version before: it embeds in one message."""

    async def EmbedInPieces(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        raise NotImplementedError

    async def Embed(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        return orchestration_pb2.EmbedResponse(vectors=self.embed(request))


def orchestration(servicer: Orchestrator) -> tuple[Any, Orchestrator, str]:
    return (
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server,
        servicer,
        "argosy.orchestration.v1.OrchestrationService",
    )


@pytest.mark.parametrize("servicer", [Orchestrator(), OlderOrchestrator()], ids=["today", "older"])
async def test_texts_are_embedded_by_the_orchestrator_for_the_caller(servicer: Orchestrator) -> None:
    async with serving(orchestration(servicer)) as channel:
        embedder = OrchestratorEmbedder(channel, "all-minilm-l6-v2", timedelta(seconds=5))
        with as_caller(a_caller(a_principal("ten_one"))):
            assert await embedder.embed(["one", "two"]) == [a_vector("one"), a_vector("two")]
            await embedder.embed(["one"])

    (tenant_id, first), (_, second) = servicer.requests
    assert (tenant_id, first.model, list(first.inputs)) == ("ten_one", "all-minilm-l6-v2", ["one", "two"])
    assert first.deadline.seconds == 5
    assert first.request_id != second.request_id


async def test_vectors_of_other_dimensions_are_rejected_and_not_retried() -> None:
    async with serving(orchestration(Orchestrator(width=4))) as channel:
        with as_caller(a_caller()), pytest.raises(IncompatibleEmbedding) as incompatible:
            await OrchestratorEmbedder(channel, "m", timedelta(seconds=5)).embed(["one"])
    assert not is_transient(incompatible.value)


async def test_an_unreachable_orchestrator_is_unavailable() -> None:
    async with Channel(f"127.0.0.1:{free_port()}", "orchestrator") as channel:
        with as_caller(a_caller()), pytest.raises(Unavailable) as away:
            await OrchestratorEmbedder(channel, "m", timedelta(seconds=0.2)).embed(["one"])
    assert isinstance(away.value, ArgosyError)
