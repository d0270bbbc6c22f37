"""Wires the inference worker."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import NoReturn

from chassis.lifecycle import Component, Service, ServiceBuilder, command_line, with_builder

from inference_worker.concurrency.drain import AbortOnDrain
from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.embeddings.grpc import EmbeddingMethods
from inference_worker.embeddings.run import EmbedRun
from inference_worker.grpc import registration
from inference_worker.metrics import IN_FLIGHT, REJECTED
from inference_worker.plans.grpc import PlanMethods
from inference_worker.plans.run import PlanRun
from inference_worker.plans.telemetry import AttemptTelemetry
from inference_worker.settings import Settings

# At the end of the drain: time for aborted plans to report their usage, then time to close connections.
USAGE_GRACE = timedelta(seconds=3)
CLOSE_GRACE = timedelta(seconds=1)


async def build(settings: Settings, service: ServiceBuilder) -> Sequence[Component]:
    """Open every upstream and return the server."""
    clock = service.clock
    limit = ConcurrencyLimit(settings.max_in_flight, REJECTED.inc)
    # Read at each scrape, which is rarer than its changes.
    IN_FLIGHT.set_function(lambda: limit.in_flight)
    upstreams = {
        name: config.isolate(await config.open(clock, service.stack)) for name, config in settings.upstreams.items()
    }
    observer = AttemptTelemetry(upstreams)
    new_run = partial(PlanRun, upstreams=upstreams, clock=clock, observer=observer, usage_wait=settings.usage_wait)
    plans = PlanMethods(new_run, limit)
    embeddings = EmbeddingMethods(partial(EmbedRun, upstreams=upstreams, clock=clock, observer=observer), limit)
    grace = settings.drain - CLOSE_GRACE
    return [
        service.grpc_server(settings.grpc, registration(plans, embeddings), grace=grace),
        # Components stop in reverse order, and plans are aborted while the server still runs.
        AbortOnDrain(plans.abort_all, grace - USAGE_GRACE),
    ]


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="inference-worker",
            settings=Settings,
            build=with_builder(build),
            description="Execution: providers, attempts, fallback, embeddings.",
        )
    )
