"""What routes can name: the upstreams of the workers, and the price book of metering."""

from collections.abc import Collection
from typing import Final

from argosy.inference.v1 import inference_pb2
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceStub
from argosy.metering.v1 import metering_pb2
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel

from orchestrator.upstreams.cache import UpstreamCache

TIMEOUT_SECONDS: Final = 5.0


class PeerFacts:
    """Implements `RouteFacts`; calls are made as the current caller."""

    def __init__(self, worker: Channel, metering: Channel, declared: UpstreamCache) -> None:
        """`declared` has what a worker may not have yet."""
        self._worker = InferenceServiceStub(worker)
        self._metering = MeteringServiceStub(metering)
        self._declared = declared

    async def upstreams(self) -> Collection[str]:
        response = await self._worker.ListUpstreams(inference_pb2.ListUpstreamsRequest(), timeout=TIMEOUT_SECONDS)
        return {*response.names, *self._declared.names()}

    async def priced(self) -> Collection[str]:
        response = await self._metering.ListPrices(metering_pb2.ListPricesRequest(), timeout=TIMEOUT_SECONDS)
        return {price.price_key for price in response.prices}
