"""gRPC: translates, decides nothing."""

from contextlib import aclosing
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from argosy.orchestration.v1.orchestration_pb2_grpc import (
    OrchestrationServiceServicer,
    add_OrchestrationServiceServicer_to_server,
)
from chassis.grpc import Registration
from chassis.tenancy import current_caller

from orchestrator.api.convert import (
    from_proto_embed,
    from_proto_generate,
    to_proto_embedded,
    to_proto_model,
    to_proto_step,
)
from orchestrator.api.observe import Watched
from orchestrator.domain.embed import Embeddings
from orchestrator.domain.generate import Done, Generations
from orchestrator.domain.ports import Payloads, Routes


class OrchestrationServicer(OrchestrationServiceServicer):
    """The one door to inference; the tenant is always the caller's."""

    def __init__(self, *, generations: Generations, embeddings: Embeddings, routes: Routes) -> None:
        self._generations = generations
        self._embeddings = embeddings
        self._routes = routes

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> None:  # type: ignore[override]
        """Answer a chat completion, in steps. Cancelling it hangs up."""
        wanted = from_proto_generate(request, current_caller().principal, context.time_remaining())
        with Watched("generation", request.model) as watched:
            async with aclosing(self._generations.generate(wanted)) as steps:
                async for step in steps:
                    if isinstance(step, Payloads):
                        watched.first_chunk()
                    elif isinstance(step, Done):
                        watched.ended(step.bill, step.failure)
                    await context.write(to_proto_step(step))

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Turn texts into vectors."""
        wanted = from_proto_embed(request, current_caller().principal, context.time_remaining())
        with Watched("embedding", request.model) as watched:
            embedded = await self._embeddings.embed(wanted)
            watched.ended(embedded.bill)
        return to_proto_embedded(embedded)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """List the models that the tenant may use."""
        routes = self._routes.table().visible(current_caller().principal.tenant_id)
        return pb.ListModelsResponse(models=[to_proto_model(route) for route in routes])


def registration(servicer: OrchestrationServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return add_OrchestrationServiceServicer_to_server, servicer, "argosy.orchestration.v1.OrchestrationService"
