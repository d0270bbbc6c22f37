"""Wires the inference worker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.grpc import GrpcServer
from chassis.lifecycle import Component, Service, command_line
from chassis.telemetry import Telemetry
from chassis.tenancy import PrincipalVerifier

from inference_worker.concurrency.drain import AbortOnDrain
from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.embeddings.run import EmbedRun
from inference_worker.grpc import InferenceServicer, registration
from inference_worker.metrics import IN_FLIGHT, REJECTED
from inference_worker.plans.grpc import PlanMethods
from inference_worker.plans.run import PlanRun
from inference_worker.plans.telemetry import AttemptTelemetry
from inference_worker.settings import Settings

# At the end of the drain: time for aborted plans to report their usage, then time to close connections.
USAGE_GRACE = timedelta(seconds=3)
CLOSE_GRACE = timedelta(seconds=1)


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open every upstream and yield the server."""
    clock = SystemClock()
    verifier = PrincipalVerifier([secret.get_secret_value() for secret in settings.principal.secrets], clock)
    limit = ConcurrencyLimit(settings.max_in_flight, REJECTED.inc)
    # Read at each scrape, which is rarer than its changes.
    IN_FLIGHT.set_function(lambda: limit.in_flight)
    async with AsyncExitStack() as stack:
        upstreams = {
            name: config.isolate(await config.open(clock, stack)) for name, config in settings.upstreams.items()
        }
        observer = AttemptTelemetry(upstreams)
        plans = PlanMethods(partial(PlanRun, upstreams=upstreams, clock=clock, observer=observer), limit)
        embeddings = EmbeddingMethods(partial(EmbedRun, upstreams=upstreams, clock=clock, observer=observer), limit)
        service = registration(InferenceServicer(plans, embeddings))
        grace = settings.drain - CLOSE_GRACE
        yield [
            GrpcServer(settings.grpc.bind, [service], verifier, clock, grace=grace),
            # Components stop in reverse order, and plans are aborted while the server still runs.
            AbortOnDrain(plans.abort_all, grace - USAGE_GRACE),
        ]


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="inference-worker",
            settings=Settings,
            build=build,
            description="Execution: providers, attempts, fallback, embeddings.",
        )
    )
