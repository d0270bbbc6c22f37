"""The frame of a run over claimed work."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from chassis.aio import heartbeat, run_claimed
from chassis.errors import Unavailable

LEASE = timedelta(milliseconds=3)


class Lost(Exception):
    """The claim is another process's."""


class FakeClaims:
    """Work of one key; `broken` is raised by what writes."""

    def __init__(self, *, claimable: bool = True, broken: Exception | None = None) -> None:
        self.claimable = claimable
        self.broken = broken
        self.released: list[tuple[str, timedelta, bool]] = []
        self.extended = 0
        self.beat = asyncio.Event()

    async def claim(self, key: str, lease: timedelta) -> str | None:
        return f"claim on {key}" if self.claimable else None

    async def extend(self, claim: str, lease: timedelta) -> None:
        self.extended += 1
        if self.extended > 2:
            self.beat.set()
        if self.broken is not None:
            raise self.broken

    async def release(self, claim: str, delay: timedelta, *, failed: bool) -> None:
        self.released.append((claim, delay, failed))
        if self.broken is not None:
            raise self.broken


async def run(claims: FakeClaims, error: BaseException | None = None) -> str | None:
    async def work(claim: str) -> str:
        if error is not None:
            raise error
        return f"worked by {claim}"

    return await run_claimed(claims, "one", LEASE, work, lost=Lost, if_lost="lost")


async def test_claimed_work_is_run_and_what_cannot_be_claimed_is_not() -> None:
    assert await run(FakeClaims()) == "worked by claim on one"
    assert await run(FakeClaims(claimable=False)) is None


async def test_a_lost_claim_ends_the_run_and_is_not_released() -> None:
    claims = FakeClaims()

    assert await run(claims, Lost()) == "lost"
    assert claims.released == []


async def test_another_error_is_raised_and_the_lease_runs_out() -> None:
    claims = FakeClaims()

    with pytest.raises(Unavailable):
        await run(claims, Unavailable("no database"))
    assert claims.released == []


@pytest.mark.parametrize("broken", [None, Lost(), Unavailable("no database")])
async def test_a_cancelled_run_gives_its_work_back_without_a_failure(broken: Exception | None) -> None:
    claims = FakeClaims(broken=broken)

    with pytest.raises(asyncio.CancelledError):
        await run(claims, asyncio.CancelledError())

    assert claims.released == [("claim on one", timedelta(0), False)]


@pytest.mark.parametrize("broken", [None, Lost(), Unavailable("no database")])
async def test_the_lease_is_extended_until_the_end_of_the_work_whatever_the_store_answers(
    broken: Exception | None,
) -> None:
    claims = FakeClaims(broken=broken)

    async with heartbeat(claims, "claim", LEASE, lost=Lost):
        await claims.beat.wait()

    extended = claims.extended
    for _ in range(20):
        await asyncio.sleep(0)
    assert claims.extended == extended >= 3
