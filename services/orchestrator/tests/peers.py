"""The other services over gRPC, each answering as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from argosy.inference.v1 import inference_pb2 as inference
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from argosy.metering.v1 import metering_pb2 as metering
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceServicer, add_MeteringServiceServicer_to_server
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from chassis.grpc.server import Registration
from chassis.tenancy import current_caller

# The stubs declare every method abstract; the scripted peers have the one that the orchestrator calls.
_MeteringServicer: Any = MeteringServiceServicer
_RetrievalServicer: Any = RetrievalServiceServicer
_InferenceServicer: Any = InferenceServiceServicer

Piece = inference.EmbedResponse | Exception | None
Embedded = Piece | Sequence[Piece]
"""The pieces of an answer, or its only one."""

Play = Callable[[Any, Any], AsyncIterator[inference.InferResponse]]


class ScriptedWorker(_InferenceServicer):  # type: ignore[misc]
    def __init__(self, play: Play | None = None, embedded: Embedded = None) -> None:
        self.play = play
        self.embedded = embedded
        self.requests: list[inference.InferRequest] = []
        self.embed_request: inference.EmbedRequest | None = None
        self.cancelled = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def registration(self) -> Registration:
        return (add_InferenceServiceServicer_to_server, self, "argosy.inference.v1.InferenceService")

    async def Infer(self, requests: Any, context: Any) -> AsyncIterator[inference.InferResponse]:
        self.requests.append(await anext(requests))
        assert self.play is not None
        try:
            async for response in self.play(self, requests):
                yield response
            self.ended.set()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def EmbedInPieces(
        self, request: inference.EmbedInPiecesRequest, context: Any
    ) -> AsyncIterator[inference.EmbedInPiecesResponse]:
        self.embed_request = request.request
        pieces = self.embedded if isinstance(self.embedded, Sequence) else (self.embedded,)
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield inference.EmbedInPiecesResponse(piece=piece)


class OlderWorker(ScriptedWorker):
    """One of an earlier version: it embeds in one message, and scores nothing."""

    async def EmbedInPieces(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        raise NotImplementedError

    async def Rerank(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Embed(self, request: inference.EmbedRequest, context: Any) -> Any:
        return self.embedded


class ScriptedMetering(_MeteringServicer):  # type: ignore[misc]
    def __init__(self, answer: metering.ReserveResponse | Exception | None) -> None:
        self.answer = answer
        self.request: metering.ReserveRequest | None = None
        self.tenant = ""

    @property
    def registration(self) -> Registration:
        return (add_MeteringServiceServicer_to_server, self, "argosy.metering.v1.MeteringService")

    async def Reserve(self, request: metering.ReserveRequest, context: Any) -> metering.ReserveResponse:
        self.request, self.tenant = request, current_caller().principal.tenant_id
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


class ScriptedRetrieval(_RetrievalServicer):  # type: ignore[misc]
    def __init__(self, answer: retrieval.SearchResponse | Exception) -> None:
        self.answer = answer
        self.request: retrieval.SearchRequest | None = None

    @property
    def registration(self) -> Registration:
        return (add_RetrievalServiceServicer_to_server, self, "argosy.retrieval.v1.RetrievalService")

    async def Search(self, request: retrieval.SearchRequest, context: Any) -> retrieval.SearchResponse:
        self.request = request
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
