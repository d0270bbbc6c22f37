"""KEDA's external scaler, on a port of its own: its calls carry no principal, and read nothing but queue lengths."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NoReturn

import grpc
from argosy.vendored.keda import externalscaler_pb2 as pb
from argosy.vendored.keda.externalscaler_pb2_grpc import (
    ExternalScalerServicer,
    add_ExternalScalerServicer_to_server,
)
from chassis.errors import ArgosyError
from chassis.grpc.status import STATUS
from chassis.telemetry import logger

from orchestrator.autoscaling.model import ScalingQuery
from orchestrator.queues.figures import LatestFigures

log = logger("orchestrator.autoscaling")


class ScalerServicer(ExternalScalerServicer):
    """Answers from the latest figures. While they are stale every call is an error: KEDA then keeps what it has."""

    def __init__(self, figures: LatestFigures, interval: timedelta) -> None:
        """`interval` is the time between two looks of `StreamIsActive`."""
        self._figures = figures
        self._interval_seconds = interval.total_seconds()

    async def IsActive(self, request: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:
        try:
            return pb.IsActiveResponse(result=self._is_active(request))
        except ArgosyError as error:
            await abort(context, error)

    async def StreamIsActive(self, request: pb.ScaledObjectRef, context: Any) -> AsyncIterator[pb.IsActiveResponse]:
        shown: bool | None = None
        while True:
            try:
                active = self._is_active(request)
            except ArgosyError as error:
                await abort(context, error)
            if active is not shown:
                shown = active
                yield pb.IsActiveResponse(result=active)
            await asyncio.sleep(self._interval_seconds)

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: Any) -> pb.GetMetricSpecResponse:
        try:
            query = ScalingQuery.read(request.scalerMetadata)
        except ArgosyError as error:
            await abort(context, error)
        spec = pb.MetricSpec(
            metricName=query.metric_name, targetSize=max(1, round(query.target)), targetSizeFloat=query.target
        )
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        try:
            query = ScalingQuery.read(request.scaledObjectRef.scalerMetadata)
            value = query.value(self._figures.current())
        except ArgosyError as error:
            await abort(context, error)
        name = request.metricName or query.metric_name
        metric = pb.MetricValue(metricName=name, metricValue=round(value), metricValueFloat=value)
        return pb.GetMetricsResponse(metricValues=[metric])

    async def StreamMetricSpec(
        self, request: pb.ScaledObjectRef, context: Any
    ) -> AsyncIterator[pb.GetMetricSpecResponse]:
        """Not implemented, so KEDA calls GetMetricSpec: targets do not change while a trigger does not."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "GetMetricSpec has all there is to know.")
        yield pb.GetMetricSpecResponse()

    def _is_active(self, request: pb.ScaledObjectRef) -> bool:
        return ScalingQuery.read(request.scalerMetadata).is_active(self._figures.current())


async def abort(context: Any, error: ArgosyError) -> NoReturn:
    """End the call with the error's status."""
    log.warning("scaler_call_failed", reason=error.reason, message=error.message)
    await context.abort(STATUS[error.kind], error.message)
    raise AssertionError("abort raises")


class ScalerServer:
    """A component that serves the external scaler on `bind`; port 0 takes a free one."""

    name = "external-scaler"

    def __init__(self, bind: str, servicer: ScalerServicer) -> None:
        self._bind = bind
        self._servicer = servicer
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises RuntimeError when the address cannot be bound."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_ExternalScalerServicer_to_server(self._servicer, server)
        self.port = server.add_insecure_port(self._bind)
        await server.start()
        self._server = server
        log.info("external_scaler_serving", address=self._bind, port=self.port)

    async def stop(self) -> None:
        """End at once: KEDA asks again."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
