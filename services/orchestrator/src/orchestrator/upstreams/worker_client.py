"""The health of upstreams, as a worker knows it."""

from typing import Final

from argosy.inference.v1 import inference_pb2
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from chassis.grpc import Channel

from orchestrator.upstreams.model import UpstreamNotFound

TIMEOUT_SECONDS: Final = 5.0


class UpstreamWorkers:
    """Any of the workers; calls are made as the current caller."""

    def __init__(self, worker: Channel) -> None:
        self._stub = InferenceServiceStub(worker)

    async def describe(self, name: str) -> inference_pb2.UpstreamHealth:
        """Raises UpstreamNotFound, Unavailable."""
        request = inference_pb2.DescribeUpstreamRequest(name=name)
        response = await self._stub.DescribeUpstream(request, timeout=TIMEOUT_SECONDS)
        if not response.HasField("health"):
            raise UpstreamNotFound(f"No worker has an upstream {name!r}.", param="name")
        return response.health
