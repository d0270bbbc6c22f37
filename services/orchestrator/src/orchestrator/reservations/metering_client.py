"""Metering over gRPC."""

from collections.abc import Sequence
from datetime import timedelta

from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.errors import Internal
from chassis.grpc import Channel
from chassis.telemetry import span

from orchestrator.adapters.mapping import from_proto_reservation, to_proto_reserve
from orchestrator.domain.plan import Bound
from orchestrator.domain.ports import Reservation
from orchestrator.metrics import RESERVE_SECONDS


class GrpcMetering:
    """The caller's budget, at the metering service; who calls is in the context."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def reserve(self, request_id: str, bounds: Sequence[Bound], lease: timedelta, time: timedelta) -> Reservation:
        """As `Metering.reserve`."""
        request = to_proto_reserve(request_id, bounds, lease)
        with span("metering.reserve", kind="client"), RESERVE_SECONDS.time():
            reservation = from_proto_reservation(await self._stub.Reserve(request, timeout=time.total_seconds()))
        if len(reservation.prices) != len(bounds):
            raise Internal("metering answered a reservation without a price for each candidate")
        return reservation
