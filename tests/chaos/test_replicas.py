"""Two replicas of a service share its load, and the death of one costs the calls in flight there and nothing else."""

import asyncio
import math
import os
import re
import signal
import time
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.chaos import books
from tests.chaos.books import until
from tests.chaos.rate import Calls, fixed_rate
from tests.fleet import SECOND, Fleet, start

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

MODEL = "sim-steady"
UPSTREAM_MODEL = "slow-first-byte?delay=0.2"
"""Slow enough that every replica has calls in flight at any time."""
WARM_SECONDS, WATCH_SECONDS = 1.0, 3.0
STEADY_WITHIN_SECONDS = 2.0
NOTICED_WITHIN_SECONDS = 0.1
"""What is sent to a replica in the moment of its death counts as in flight there."""
METHODS = {"orchestrator": "OrchestrationService/Generate", "inference-worker": "InferenceService/Infer"}


@pytest.fixture
async def twice(fleet: Fleet) -> Fleet:
    """The fleet with its second replicas, and a model to call."""
    await asyncio.to_thread(start, SECOND)
    await fleet.offer(MODEL, model=UPSTREAM_MODEL)
    return fleet


async def metric(fleet: Fleet, replica: str, pattern: str) -> float:
    """The sum of a replica's metrics whose names and labels match."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{fleet.ports[f'{replica}-ops']}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(pattern, line))


async def answered(fleet: Fleet) -> dict[str, list[float]]:
    """Calls that each replica has answered, by service."""
    return {
        service: [
            await metric(fleet, replica, rf"argosy_grpc_server_calls_total.*{method}")
            for replica in (service, f"{service}-2")
        ]
        for service, method in METHODS.items()
    }


async def test_two_replicas_share_the_load(twice: Fleet, rate: int) -> None:
    async with fixed_rate(twice, MODEL, rate):  # until every stream between replicas is open
        await asyncio.sleep(WARM_SECONDS)
    before = await answered(twice)
    async with fixed_rate(twice, MODEL, rate) as calls:
        await asyncio.sleep(2 * WARM_SECONDS)
    after = await answered(twice)

    assert (calls.load.typed, calls.load.cut) == ({}, 0)
    for service in METHODS:
        shares = [now - then for now, then in zip(after[service], before[service], strict=True)]
        print(f"{service}: {shares}")
        assert sum(shares) >= len(calls.all)
        assert abs(shares[0] - shares[1]) <= 0.2 * sum(shares) / 2, service


async def kill(fleet: Fleet, victim: str, calls: Calls) -> tuple[float, str]:
    """End a replica with SIGKILL and see the rate through; return when that was, and what to print."""

    async def steady() -> bool:
        now = time.monotonic()
        return calls.steady_after(now - WARM_SECONDS, now) == 0

    await until("the rate is steady before the kill", 60, steady)
    at_hand = await metric(fleet, victim, r"argosy_grpc_server_in_flight")
    pid = fleet.pid_of(victim)
    os.kill(pid, signal.SIGKILL)
    at = time.monotonic()
    await asyncio.sleep(WATCH_SECONDS)

    async def restarted() -> bool:
        return fleet.pid_of(victim) not in {0, pid}

    await until(f"{victim} runs again", 60, restarted)
    return at, f"{victim} killed with some {at_hand:.0f} calls at hand"


def judge(calls: Calls, at: float, until: float, told: str, *, may_fail: bool) -> None:
    """Until the next kill, failures are calls that were in flight at this one, and the rate is steady again soon."""
    end = at + WATCH_SECONDS
    failed, in_flight, steady = calls.failed(at, until), calls.in_flight(at), calls.steady_after(at, end)
    print(f"{told}: {len(failed)} of {in_flight} in flight failed, steady after {steady:.1f} s")
    print(f"  good answers per 100 ms from then on: {calls.buckets(at, end)}")
    late = [call.began - at for call in failed if call.began > at + NOTICED_WITHIN_SECONDS]
    assert late == [], "calls failed that began after the kill"
    assert len(failed) <= (in_flight if may_fail else 0)
    assert steady <= STEADY_WITHIN_SECONDS


async def test_the_death_of_a_replica_costs_the_calls_in_flight_there_and_nothing_else(
    twice: Fleet, rate: int, rounds: int
) -> None:
    kills: list[tuple[Any, ...]] = []
    async with fixed_rate(twice, MODEL, rate) as calls:
        await asyncio.sleep(WARM_SECONDS)
        for victim in ("orchestrator", "inference-worker", "metering") * rounds:
            kills.append((*await kill(twice, victim, calls), victim))  # noqa: PERF401 - one after the other
    load = calls.load
    print(f"{len(load.answered)} answered at {rate}/s, {load.cut} cut, {dict(load.typed)}")

    assert (load.cut, load.untyped, calls.failed(0, kills[0][0])) == (0, [], [])
    for (at, told, victim), (next_at, *_) in pairwise([*kills, (math.inf,)]):
        judge(calls, at, next_at, told, may_fail=victim != "metering")  # to reserve again changes nothing
    await books.are_exact(twice, load)
