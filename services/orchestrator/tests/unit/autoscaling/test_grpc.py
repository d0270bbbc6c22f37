"""KEDA's external scaler, called as KEDA does: plain gRPC, without a principal."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from argosy.vendored.keda import externalscaler_pb2 as pb
from argosy.vendored.keda.externalscaler_pb2_grpc import ExternalScalerStub
from chassis.testing import FakeClock
from orchestrator.autoscaling.grpc import ScalerServer, ScalerServicer
from orchestrator.jobs.model import Lane
from orchestrator.queues.figures import LatestFigures
from orchestrator.queues.model import QueueFigures

from services.orchestrator.tests.queue_fakes import BATCH, INTERACTIVE, FakeQueueStore


class Scaler:
    """A served scaler, and what is behind it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = FakeQueueStore(BATCH, INTERACTIVE)
        self.figures = LatestFigures(self.store, self.clock)
        self.stub: Any = None

    async def read(self, *figures: QueueFigures) -> None:
        self.store.figures = figures
        await self.figures.refresh()

    async def value(self, **metadata: str) -> float:
        reference = ref(**metadata)
        spec = (await self.stub.GetMetricSpec(reference)).metricSpecs[0]
        response = await self.stub.GetMetrics(
            pb.GetMetricsRequest(scaledObjectRef=reference, metricName=spec.metricName)
        )
        (metric,) = response.metricValues
        assert metric.metricName == spec.metricName
        assert metric.metricValue == round(metric.metricValueFloat)
        return float(metric.metricValueFloat)


def ref(**metadata: str) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(name="worker", namespace="argosy", scalerMetadata=metadata)


@pytest.fixture
async def scaler() -> AsyncIterator[Scaler]:
    scaler = Scaler()
    server = ScalerServer("127.0.0.1:0", ScalerServicer(scaler.figures, timedelta(milliseconds=10)))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        scaler.stub = ExternalScalerStub(channel)
        yield scaler
    await server.stop()


async def test_the_metric_is_all_unfinished_jobs_of_the_pool(scaler: Scaler) -> None:
    await scaler.read(BATCH, INTERACTIVE, QueueFigures(pool="gpu", lane=Lane.BATCH, queued=1_000))

    assert await scaler.value() == 30 + 4 + 2 + 1
    assert await scaler.value(pool="gpu") == 1_000
    assert await scaler.value(lanes="interactive") == 1
    assert await scaler.value(lanes="interactive, batch") == 37
    assert await scaler.value(pool="none") == 0


async def test_what_is_paused_needs_no_replicas(scaler: Scaler) -> None:
    paused = QueueFigures(pool="gpu", lane=Lane.BATCH, queued=1_000, paused=1_000, mean_run=timedelta(seconds=2))
    await scaler.read(paused)

    assert await scaler.value(pool="gpu") == 0
    assert await scaler.value(pool="gpu", metric="work_seconds") == 0
    assert not (await scaler.stub.IsActive(ref(pool="gpu"))).result


async def test_the_target_is_what_the_trigger_says(scaler: Scaler) -> None:
    (spec,) = (await scaler.stub.GetMetricSpec(ref(target="2.5"))).metricSpecs
    (default,) = (await scaler.stub.GetMetricSpec(ref(pool="gpu", scalerAddress="scaler:9100"))).metricSpecs

    assert (spec.targetSizeFloat, spec.targetSize, spec.metricName) == (2.5, 2, "argosy-default-jobs")
    assert (default.targetSizeFloat, default.metricName) == (16, "argosy-gpu-jobs")


async def test_the_metric_may_be_seconds_of_work(scaler: Scaler) -> None:
    await scaler.read(BATCH, INTERACTIVE)

    assert await scaler.value(metric="work_seconds") == 75


async def test_work_that_is_unknown_is_an_error(scaler: Scaler) -> None:
    await scaler.read(QueueFigures(pool="default", lane=Lane.BATCH, queued=5))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scaler.value(metric="work_seconds")

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("figures", "active"), [((BATCH,), True), ((INTERACTIVE,), True), ((), False)])
async def test_a_pool_is_active_while_it_has_unfinished_jobs(
    scaler: Scaler, figures: tuple[QueueFigures, ...], active: bool
) -> None:
    await scaler.read(*figures)

    assert (await scaler.stub.IsActive(ref())).result is active


async def test_activity_is_pushed_when_it_changes(scaler: Scaler) -> None:
    await scaler.read()
    stream = scaler.stub.StreamIsActive(ref())
    seen = [(await stream.read()).result]
    for figures in ((BATCH,), (BATCH, INTERACTIVE), ()):
        await scaler.read(*figures)
        if figures != (BATCH, INTERACTIVE):
            seen.append((await stream.read()).result)
    stream.cancel()

    assert seen == [False, True, False]


async def test_while_the_source_is_stale_every_figure_is_an_error_and_never_zero(scaler: Scaler) -> None:
    unread = scaler.stub.IsActive(ref())
    with pytest.raises(grpc.aio.AioRpcError):
        await unread
    await scaler.read(BATCH)
    stream = scaler.stub.StreamIsActive(ref())
    assert (await stream.read()).result is True

    scaler.clock.advance(timedelta(seconds=60))
    assert await scaler.value() == 36
    scaler.clock.advance(timedelta(seconds=1))

    request = pb.GetMetricsRequest(scaledObjectRef=ref(), metricName="argosy-default-jobs")
    for call in (scaler.stub.IsActive(ref()), scaler.stub.GetMetrics(request), stream.read()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async with asyncio.timeout(30):
                await call
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "61 s ago" in str(refused.value.details())
    assert (await scaler.stub.GetMetricSpec(ref())).metricSpecs


@pytest.mark.parametrize(
    "metadata",
    [
        {"target": "0"},
        {"target": "-1"},
        {"target": "nan"},
        {"target": "inf"},
        {"target": "many"},
        {"metric": "depth"},
        {"lanes": "batch,fast"},
        {"lane": "batch"},
    ],
)
async def test_a_trigger_that_would_be_misread_is_refused(scaler: Scaler, metadata: dict[str, str]) -> None:
    await scaler.read(BATCH)

    for call in (scaler.stub.GetMetricSpec(ref(**metadata)), scaler.stub.IsActive(ref(**metadata))):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_implemented_is_said_so(scaler: Scaler) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scaler.stub.StreamMetricSpec(ref()).read()

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
