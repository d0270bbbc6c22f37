"""A real worker and a real upstream: what a provider received is settled, whatever dies."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, Unavailable
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, PrincipalSigner, PrincipalVerifier, as_caller
from chassis.testing import SECRET, a_principal, free_port
from chassis.testing.grpc import serving_at
from orchestrator.reservations.metering_client import GrpcMeteringClient
from orchestrator.routing.model import ALL_TENANTS, RouteCandidate, RouteEntry, Task
from orchestrator.workers.worker_client import GrpcWorkerClient
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause

from services.orchestrator.tests.fakes import FakeMeteringClient, route_table
from services.orchestrator.tests.harness import Harness, reported
from services.orchestrator.tests.in_memory_peers import InMemoryMetering
from tests.simulators.upstream import UpstreamSimulator

# The worker's process has the machine's clock, so all have.
VERIFIER = PrincipalVerifier([SECRET], SystemClock())
SIGNER = PrincipalSigner(SECRET, "tests", SystemClock())


@dataclass
class Fleet:
    """An orchestrator's use cases between a worker process and a metering that answers over gRPC."""

    worker: asyncio.subprocess.Process
    metering: FakeMeteringClient
    simulator: UpstreamSimulator
    client: GrpcWorkerClient
    metering_client: GrpcMeteringClient

    def harness(self, *models: str, task: Task = Task.CHAT) -> Harness:
        """Route the public model to `models` of the simulator, whose names are its behaviours."""
        candidates = tuple(RouteCandidate("sim", model, 64) for model in models)
        names = {Task.CHAT: "smollm2", Task.EMBEDDING: "all-minilm-l6-v2"}
        routes = route_table(RouteEntry(ALL_TENANTS, names[task], task, candidates))
        harness = Harness(self.client, self.metering_client, routes=routes)  # type: ignore[arg-type]
        self.metering.prices = {candidate.price_key: (1_000_000_000, 1_000_000_000) for candidate in candidates}
        return harness

    def received(self) -> list[str]:
        return [request.body["model"] for request in self.simulator.requests]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    metering, principal = FakeMeteringClient(), a_principal()
    async with (
        UpstreamSimulator() as simulator,
        worker_process(simulator) as (process, channel),
        serving_at("127.0.0.1:0", [InMemoryMetering(metering).registration], VERIFIER) as server,
        Channel(f"127.0.0.1:{server.port}", "metering") as metering_channel,
    ):
        client = GrpcMeteringClient(metering_channel, SIGNER)
        with as_caller(Caller(principal, SIGNER.sign(principal), new_id("req_"))):
            yield Fleet(process, metering, simulator, GrpcWorkerClient(channel), client)


@asynccontextmanager
async def worker_process(
    simulator: UpstreamSimulator,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Channel]]:
    port = free_port()
    environment = {
        **os.environ,
        "INFERENCE_WORKER_PRINCIPAL__SECRETS": SECRET,
        "INFERENCE_WORKER_GRPC__BIND": f"127.0.0.1:{port}",
        "INFERENCE_WORKER_OPS__PORT": str(free_port()),
        "INFERENCE_WORKER_UPSTREAMS": json.dumps({"sim": {"kind": "openai", "base_url": f"{simulator.url}/v1"}}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "inference_worker", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with Channel(f"127.0.0.1:{port}", "the inference worker") as channel:
            async with asyncio.timeout(30):
                while not channel.ready:
                    with suppress(Unavailable):
                        await channel.await_ready(1)
            yield process, channel
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_fallback_is_on_record_before_its_provider_has_it(fleet: Fleet) -> None:
    harness = fleet.harness("429", "instant")

    await harness.generate()

    assert fleet.received() == ["429", "instant"]
    (start,) = fleet.metering.starts
    assert (start.number, start.bound) == (2, 1)
    first, second = (await harness.usage).attempts
    assert (first.price.key, first.usage) == ("sim/429", NO_USAGE)
    assert (second.price.key, second.usage) == ("sim/instant", reported(4, 8))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_worker_killed_in_its_second_call_leaves_both_on_their_own_candidates(
    fleet: Fleet, stream: bool
) -> None:
    harness = fleet.harness("429", "timeout")
    answering = asyncio.ensure_future(harness.generate(stream=stream))
    await until(lambda: fleet.received() == ["429", "timeout"])

    fleet.worker.kill()
    with pytest.raises(ArgosyError):
        await answering

    attempts = (await harness.usage).attempts
    assert [(one.number, one.price.key, one.usage) for one in attempts] == [
        (1, "sim/429", NO_USAGE),
        (2, "sim/timeout", UNKNOWN_USAGE),
    ]
    assert attempts[1].exposure_cause is ExposureCause.FLEET
    assert [start.number for start in fleet.metering.starts] == [2]


async def test_without_a_record_the_provider_is_not_called(fleet: Fleet) -> None:
    harness = fleet.harness("429", "instant")
    fleet.metering.start_failure = RuntimeError("metering is broken")

    with pytest.raises(ArgosyError) as failed:
        await harness.generate()

    assert failed.value.reason == "UPSTREAM_RATE_LIMITED"
    assert fleet.received() == ["429"]


async def test_a_client_that_leaves_an_answer_that_is_not_streamed_pays_for_it(fleet: Fleet) -> None:
    harness = fleet.harness("slow-first-byte?delay=0.5")
    answering = asyncio.ensure_future(harness.generate(stream=False))
    await until(fleet.received)

    answering.cancel()

    (attempt,) = (await harness.usage).attempts
    assert attempt.usage == reported(4, 8)
    assert fleet.simulator.aborted == 0


async def test_an_embedding_that_falls_back_is_on_record_as_well(fleet: Fleet) -> None:
    harness = fleet.harness("429", "instant", task=Task.EMBEDDING)

    embedded = await harness.embed("a", "b")

    assert len(embedded.vectors) == 2
    assert fleet.received() == ["429", "instant"]
    assert [(start.number, start.bound) for start in fleet.metering.starts] == [(2, 1)]
    assert [one.price.key for one in (await harness.usage).attempts] == ["sim/429", "sim/instant"]
