"""The gRPC service: each RPC is a method of its feature."""

from types import SimpleNamespace

from argosy.inference.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server
from chassis.grpc import Registration

from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.plans.grpc import PlanMethods
from inference_worker.rerank.grpc import RerankMethods
from inference_worker.upstreams.grpc import UpstreamMethods


def registration(
    plans: PlanMethods, embeddings: EmbeddingMethods, rerank: RerankMethods, upstreams: UpstreamMethods
) -> Registration:
    """Return what a `GrpcServer` needs to serve them. A servicer in between would add a call to each RPC."""
    servicer = SimpleNamespace(
        Infer=plans.infer,
        Embed=embeddings.embed,
        EmbedInPieces=embeddings.embed_in_pieces,
        Rerank=rerank.rerank,
        ListUpstreams=upstreams.list,
        DescribeUpstream=upstreams.describe,
    )
    return add_InferenceServiceServicer_to_server, servicer, "argosy.inference.v1.InferenceService"
