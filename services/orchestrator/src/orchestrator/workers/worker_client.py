"""Inference workers over gRPC."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from argosy.inference.v1.inference_pb2 import (
    EmbedInPiecesRequest,
    EmbedRequest,
    EmbedResponse,
    InferRequest,
    Proceed,
    Stop,
)
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from chassis.errors import ArgosyError, DeadlineExceeded, Internal, RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.telemetry import span

from orchestrator.errors import WorkerOutdated
from orchestrator.limits import WORKER_GRACE
from orchestrator.workers.model import EmbeddingPlan, EmbeddingResult, Event, Plan, RerankPlan, RerankResult
from orchestrator.workers.protos import (
    embedding_plan_to_proto,
    plan_to_proto,
    proto_to_embedding_result,
    proto_to_event,
    proto_to_rerank_result,
    rerank_plan_to_proto,
)

GRACE_SECONDS = WORKER_GRACE.total_seconds()
UNIMPLEMENTED = "UNIMPLEMENTED"
# Time for a call to end after Finished was read, before it is cancelled.
END_SECONDS = 1.0


class GrpcWorkerClient:
    """Runs plans on inference workers as the current caller."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = InferenceServiceStub(channel)

    async def wait_ready(self, timeout: timedelta) -> None:
        if not timeout:
            raise DeadlineExceeded("the request ran out of time before a worker had it")
        if not self._channel.ready:
            await self._channel.await_ready(timeout.total_seconds())

    def infer(self, plan: Plan) -> "GrpcInferenceCall":
        return GrpcInferenceCall(self._stub, plan)

    async def embed(self, plan: EmbeddingPlan) -> EmbeddingResult:
        request, timeout = embedding_plan_to_proto(plan), plan.deadline.total_seconds() + GRACE_SECONDS
        with span("worker.embed", kind="client", inputs=len(plan.inputs)):
            try:
                responses = await self._read_pieces(request, timeout)
            except RemoteError as error:
                if error.reason != UNIMPLEMENTED:
                    raise
                # A worker of the version before.
                responses = [await self._stub.Embed(request, timeout=timeout)]
        result = proto_to_embedding_result(responses)
        if result.finished.error is None and len(result.vectors) != len(plan.inputs):
            raise Internal("the worker answered without a vector for each input")
        return result

    async def rerank(self, plan: RerankPlan) -> RerankResult:
        timeout = plan.deadline.total_seconds() + GRACE_SECONDS
        with span("worker.rerank", kind="client", documents=len(plan.documents)):
            try:
                response = await self._stub.Rerank(rerank_plan_to_proto(plan), timeout=timeout)
            except RemoteError as error:
                if error.reason == UNIMPLEMENTED:
                    raise WorkerOutdated("the inference worker is too old to score documents") from error
                raise
        result = proto_to_rerank_result(response)
        if result.finished.error is None and len(result.scores) != len(plan.documents):
            raise Internal("the worker answered without a score for each document")
        return result

    async def _read_pieces(self, request: EmbedRequest, timeout: float) -> list[EmbedResponse]:
        pieces: list[EmbedResponse] = []
        try:
            async for response in self._stub.EmbedInPieces(EmbedInPiecesRequest(request=request), timeout=timeout):
                pieces.append(response.piece)  # noqa: PERF401 - what came before an error is looked at
        except ArgosyError as error:
            if not pieces:
                raise
            # Never taken for a refusal: the provider has answered.
            raise Unavailable("the worker did not send all vectors") from error
        if not pieces:
            raise Unavailable("the worker ended the call without an answer")
        return pieces


class GrpcInferenceCall:
    """One plan; a worker runs it while the block lasts."""

    def __init__(self, stub: Any, plan: Plan) -> None:
        self._stub = stub
        self._plan = plan
        self._span = span("worker.infer", kind="client", candidates=len(plan.candidates))
        self._call: Any = None
        self._stop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._span.__enter__()
        try:
            self._call = self._stub.Infer(timeout=self._plan.deadline.total_seconds() + GRACE_SECONDS)
            await self._call.write(plan_to_proto(self._plan))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._cancel()
        else:
            # The call ends by itself, so that the worker does not see a cancelled one; the client need not wait for it.
            asyncio.get_running_loop().call_later(END_SECONDS, self._cancel)
        self._span.__exit__(kind, error, trace)

    async def read(self) -> Event:
        response = await self._call.read()
        if response is grpc.aio.EOF:
            raise Unavailable("the worker ended the call without Finished")
        return proto_to_event(response)

    def stop(self) -> None:
        if self._stop_task is None:
            self._stop_task = asyncio.get_running_loop().create_task(self._send_stop())

    async def proceed(self, attempt: int) -> None:
        # A call that has failed needs none; `read` raises its error.
        with suppress(ArgosyError, asyncio.InvalidStateError):
            await self._call.write(InferRequest(proceed=Proceed(attempt=attempt)))

    def _cancel(self) -> None:
        # No effect on a call that has ended.
        if self._call is not None:
            self._call.cancel()

    async def _send_stop(self) -> None:
        # A call that has ended needs no Stop; the error of a failed one is raised by `read`.
        with suppress(ArgosyError, asyncio.InvalidStateError):
            await self._call.write(InferRequest(stop=Stop()))
