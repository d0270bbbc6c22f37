"""A gRPC server in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from chassis.clock import SystemClock
from chassis.errors import Unavailable
from chassis.grpc import Channel, GrpcServer, Registration
from chassis.tenancy import PrincipalVerifier
from chassis.testing import a_verifier
from chassis.testing.grpc_aio import GrpcAioChannel


@asynccontextmanager
async def serving(
    *register: Registration,
    verifier: PrincipalVerifier | None = None,
    channel_type: type[Channel | GrpcAioChannel] = Channel,
) -> AsyncIterator[Any]:
    """Serve servicers on a free port and yield a channel that is connected to them.

    Connected: on a busy machine that may take longer than a call waits for it.
    """
    async with (
        serving_at("127.0.0.1:0", register, verifier) as server,
        channel_type(f"127.0.0.1:{server.port}", "test") as channel,
    ):
        async with asyncio.timeout(60):
            while not channel.ready:
                with suppress(Unavailable):
                    await channel.await_ready(60)
        yield channel


@asynccontextmanager
async def serving_at(
    bind: str, register: Sequence[Registration], verifier: PrincipalVerifier | None = None
) -> AsyncIterator[GrpcServer]:
    """Serve at an address; calls in flight at the end are aborted."""
    server = GrpcServer(bind, register, verifier or a_verifier(), SystemClock(), grace=timedelta(0))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
