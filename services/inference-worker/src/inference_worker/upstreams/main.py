"""Wires upstreams."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from chassis.grpc import Channel
from chassis.lifecycle import Component, Loop, ServiceBuilder
from chassis.sealing import KeyRing
from values.credentials import SEALING_PURPOSE

from inference_worker.providers.ports import Upstream
from inference_worker.upstreams.live import LiveUpstreams
from inference_worker.upstreams.open import Opener
from inference_worker.upstreams.orchestrator_client import GrpcUpstreamSource
from inference_worker.upstreams.schedule import UpstreamWatch

FIRST_POLL_SECONDS = 2.0
"""How long the start waits for the orchestrator; without it the worker starts with the upstreams of its settings."""


async def build_upstreams(
    service: ServiceBuilder,
    orchestrator: Channel | None,
    configured: Mapping[str, Upstream],
    *,
    keys: list[str],
    allow_link_local: bool,
) -> tuple[LiveUpstreams, list[Component]]:
    """Return the upstreams, and what keeps them current. Without the orchestrator they are those of the settings."""
    opener = Opener(KeyRing(keys, SEALING_PURPOSE), service.clock, allow_link_local=allow_link_local)
    upstreams = await service.open(LiveUpstreams(configured, opener.open, opener.unseal))
    if orchestrator is None:
        return upstreams, []
    watch = UpstreamWatch(GrpcUpstreamSource(orchestrator, service.signer), upstreams)
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_POLL_SECONDS):
            await watch.poll()
    return upstreams, [Loop("upstreams", watch.run)]
