"""The inference worker over gRPC."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from argosy.inference.v1.inference_pb2 import InferRequest, Stop
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from chassis.errors import ArgosyError, Internal, Unavailable
from chassis.grpc import Channel
from chassis.telemetry import span

from orchestrator.adapters.mapping import from_proto_embedded, from_proto_finished, to_proto_embed, to_proto_run
from orchestrator.domain.plan import EmbeddingPlan, Plan
from orchestrator.domain.ports import Answering, Embedding, Event, Payloads

# The worker ends a plan at its deadline by itself; the call waits this much longer for the account, in seconds.
ACCOUNT_SECONDS = 5.0
# How long a call whose account was read may take to end: its end is on its way.
END_SECONDS = 1.0


class GrpcWorker:
    """Runs plans on an inference worker; who calls is in the context."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = InferenceServiceStub(channel)

    async def reach(self, time: timedelta) -> None:
        """As `Worker.reach`."""
        if not self._channel.ready:
            await self._channel.await_ready(time.total_seconds())

    def infer(self, plan: Plan) -> "GrpcInference":
        """As `Worker.infer`."""
        return GrpcInference(self._stub, plan)

    async def embed(self, plan: EmbeddingPlan) -> Embedding:
        """As `Worker.embed`."""
        with span("worker.embed", kind="client", inputs=len(plan.inputs)):
            answer = await self._stub.Embed(
                to_proto_embed(plan), timeout=plan.deadline.total_seconds() + ACCOUNT_SECONDS
            )
        finished = from_proto_embedded(answer)
        if finished.failure is None and len(answer.vectors) != len(plan.inputs):
            raise Internal("the worker answered without a vector for each input")
        return Embedding(tuple(vector.float32 for vector in answer.vectors), finished)


class GrpcInference:
    """One plan, which a worker runs while the block lasts."""

    def __init__(self, stub: Any, plan: Plan) -> None:
        self._stub = stub
        self._plan = plan
        self._span = span("worker.infer", kind="client", candidates=len(plan.candidates))
        self._call: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._span.__enter__()
        try:
            self._call = self._stub.Infer(timeout=self._plan.deadline.total_seconds() + ACCOUNT_SECONDS)
            await self._call.write(to_proto_run(self._plan))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abort()
        else:
            # Let the call end by itself, so that the worker does not see it cancelled, and let nobody wait for that.
            asyncio.get_running_loop().call_later(END_SECONDS, self._abort)
        self._span.__exit__(kind, error, trace)

    async def read(self) -> Event:
        """As `Inference.read`."""
        response = await self._call.read()
        if response is grpc.aio.EOF:
            raise Unavailable("the worker broke off without an account")
        step = response.WhichOneof("event")
        if step == "chunk":
            return Payloads(response.chunk.payloads[:])
        if step == "started":
            return Answering(response.started.candidate)
        if step == "finished":
            return from_proto_finished(response.finished)
        raise Internal("the worker said something unheard of")

    def stop(self) -> None:
        """As `Inference.stop`."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    def _abort(self) -> None:
        # Without effect on a call that is over.
        if self._call is not None:
            self._call.cancel()

    async def _stop(self) -> None:
        # A call that has ended meanwhile needs no stop; one that broke says so to who reads it.
        with suppress(ArgosyError, asyncio.InvalidStateError):
            await self._call.write(InferRequest(stop=Stop()))
