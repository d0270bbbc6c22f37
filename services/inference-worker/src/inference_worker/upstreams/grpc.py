"""The RPCs `ListUpstreams` and `DescribeUpstream`."""

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from argosy.inference.v1 import inference_pb2 as pb
from chassis.tenancy import current_caller
from values.protos import duration_to_proto
from values.roles import PLATFORM_ADMIN, SERVICE

from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.health import CircuitHealth, upstream_health
from inference_worker.breakers.model import CircuitState

STATES = {
    CircuitState.CLOSED: pb.CIRCUIT_STATE_CLOSED,
    CircuitState.OPEN: pb.CIRCUIT_STATE_OPEN,
    CircuitState.HALF_OPEN: pb.CIRCUIT_STATE_HALF_OPEN,
}


class UpstreamMethods:
    """For operators and services."""

    def __init__(self, upstreams: Collection[str], circuits: Circuits, now: Callable[[], float]) -> None:
        """`upstreams` are their names, and may change; `now` is the monotonic clock of the circuits."""
        self._upstreams = upstreams
        self._circuits = circuits
        self._now = now

    async def list(self, request: pb.ListUpstreamsRequest, context: Any) -> pb.ListUpstreamsResponse:
        """Name the upstreams that plans can use now."""
        current_caller().principal.require(PLATFORM_ADMIN, SERVICE)
        return pb.ListUpstreamsResponse(names=sorted(self._upstreams))

    async def describe(
        self,
        request: pb.DescribeUpstreamRequest,
        context: Any,
    ) -> pb.DescribeUpstreamResponse:
        """Tell the state of the circuits of one upstream."""
        current_caller().principal.require(PLATFORM_ADMIN, SERVICE)
        if request.name not in self._upstreams:
            return pb.DescribeUpstreamResponse()
        shown, left_out = upstream_health(self._circuits, request.name, self._now())
        health = pb.UpstreamHealth(circuits=map(health_to_proto, shown), left_out=left_out)
        return pb.DescribeUpstreamResponse(health=health)


def health_to_proto(one: CircuitHealth) -> pb.Circuit:
    return pb.Circuit(
        credential_id=one.credential_id,
        model=one.model,
        state=STATES[one.state],
        probe_in=duration_to_proto(timedelta(seconds=one.probe_in)),
        rests_for=duration_to_proto(timedelta(seconds=one.rests_for)),
        credential_rests_for=duration_to_proto(timedelta(seconds=one.credential_rests_for)),
        calls=one.calls,
        failures=one.failures,
        slow=one.slow,
        only_tenant_id=one.only_tenant_id,
    )
