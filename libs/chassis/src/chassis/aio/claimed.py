"""The frame of a run over claimed work: claim, heartbeat, an end without a write when it is lost, release."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Protocol, TypeVar

from chassis.errors import ArgosyError

HEARTBEATS_PER_LEASE = 3

K_contra = TypeVar("K_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
K = TypeVar("K")
C = TypeVar("C")
R = TypeVar("R")


class Leases(Protocol[C_contra]):
    """Leases on claims of one kind. Methods raise the caller's error for a claim that is lost."""

    async def extend(self, claim: C_contra, lease: timedelta) -> None:
        """Extend the lease."""


class Claims(Protocol[K_contra, C]):
    """Work of one kind. Methods that take a claim raise the caller's error for one that is lost."""

    async def claim(self, key: K_contra, lease: timedelta) -> C | None:
        """None when there is nothing to do, or another process does it."""

    async def release(self, claim: C, delay: timedelta, *, failed: bool) -> None:
        """End the lease; the work is due again after `delay`."""


async def run_claimed(
    claims: Claims[K, C],
    key: K,
    lease: timedelta,
    work: Callable[[C], Awaitable[R]],
    *,
    lost: type[Exception],
    if_lost: R,
) -> R | None:
    """Claim the work and run it; None when it cannot be claimed, and `if_lost` when `lost` is raised.

    A run that is cancelled gives the work back, due at once and without a crash counted.
    """
    claim = await claims.claim(key, lease)
    if claim is None:
        return None
    try:
        return await work(claim)
    except lost:
        return if_lost
    except asyncio.CancelledError:
        with suppress(lost, ArgosyError):
            await claims.release(claim, timedelta(0), failed=False)
        raise


@asynccontextmanager
async def heartbeat(
    leases: Leases[C_contra], claim: C_contra, lease: timedelta, *, lost: type[Exception]
) -> AsyncIterator[None]:
    """Extend the lease in the background. Failures are ignored: each write of the run checks the claim itself."""

    async def extend_forever() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / HEARTBEATS_PER_LEASE)
            with suppress(lost, ArgosyError):
                await leases.extend(claim, lease)

    task = asyncio.create_task(extend_forever())
    try:
        yield
    finally:
        task.cancel()
