"""A server in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from chassis.clock import SystemClock
from chassis.grpc import Channel, GrpcServer, OrdinaryChannel, Registration
from chassis.tenancy import PrincipalVerifier
from chassis.testing import a_verifier


@asynccontextmanager
async def serving(
    *register: Registration,
    verifier: PrincipalVerifier | None = None,
    carrier: type[Channel | OrdinaryChannel] = Channel,
) -> AsyncIterator[Any]:
    """Serve servicers on a free port and yield a channel to them; its calls are of whoever acts in the test."""
    async with (
        serving_at("127.0.0.1:0", register, verifier) as server,
        carrier(f"127.0.0.1:{server.port}", "test") as channel,
    ):
        yield channel


@asynccontextmanager
async def serving_at(
    bind: str, register: Sequence[Registration], verifier: PrincipalVerifier | None = None
) -> AsyncIterator[GrpcServer]:
    """Serve at an address; a server that leaves drops what it still does."""
    server = GrpcServer(bind, register, verifier or a_verifier(), SystemClock(), grace=timedelta(0))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
