"""Two replicas of a service share its load, and the kill of one fails only the calls in flight there."""

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

from tests.chaos import ledger_checks
from tests.chaos.ledger_checks import wait_for
from tests.chaos.rate import Calls, fixed_rate
from tests.fleet.client import Fleet
from tests.fleet.control import SECOND_REPLICAS, start

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

MODEL = "sim-steady"
UPSTREAM_MODEL = "slow-first-byte?delay=0.2"
"""Slow enough that every replica has calls in flight at any time."""
WARM_SECONDS, WATCH_SECONDS = 1.0, 3.0
STEADY_WITHIN_SECONDS = 2.0
NOTICED_WITHIN_SECONDS = 0.1
"""A call that starts this soon after the kill counts as in flight."""
METHODS = {"orchestrator": "OrchestrationService/Generate", "inference-worker": "InferenceService/Infer"}


@pytest.fixture
async def replicated(fleet: Fleet) -> Fleet:
    """The fleet with its second replicas, and a model to call."""
    await asyncio.to_thread(start, SECOND_REPLICAS)
    await fleet.add_model(MODEL, upstream_model=UPSTREAM_MODEL)
    return fleet


async def metric(fleet: Fleet, replica: str, pattern: str) -> float:
    """The sum of a replica's metrics whose names and labels match."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{fleet.ports[f'{replica}-ops']}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(pattern, line))


async def completed(fleet: Fleet) -> dict[str, list[float]]:
    """Completed calls of each replica, by service."""
    return {
        service: [
            await metric(fleet, replica, rf"argosy_grpc_server_calls_total.*{method}")
            for replica in (service, f"{service}-2")
        ]
        for service, method in METHODS.items()
    }


async def test_two_replicas_share_the_load(replicated: Fleet, rate: int) -> None:
    async with fixed_rate(replicated, MODEL, rate):  # until all streams between replicas are open
        await asyncio.sleep(WARM_SECONDS)
    before = await completed(replicated)
    async with fixed_rate(replicated, MODEL, rate) as calls:
        await asyncio.sleep(2 * WARM_SECONDS)
    after = await completed(replicated)

    assert (calls.load.typed, calls.load.disconnected) == ({}, 0)
    for service in METHODS:
        shares = [now - then for now, then in zip(after[service], before[service], strict=True)]
        print(f"{service}: {shares}")
        assert sum(shares) >= len(calls.all)
        assert abs(shares[0] - shares[1]) <= 0.2 * sum(shares) / 2, service


async def kill(fleet: Fleet, victim: str, calls: Calls) -> tuple[float, str]:
    """Kill a replica with SIGKILL under load; return the time, and a line for the output."""

    async def steady() -> bool:
        now = time.monotonic()
        return calls.steady_after(now - WARM_SECONDS, now) == 0

    await wait_for("the rate is steady before the kill", 60, steady)
    in_flight = await metric(fleet, victim, r"argosy_grpc_server_in_flight")
    pid = fleet.pid_of(victim)
    os.kill(pid, signal.SIGKILL)
    at = time.monotonic()
    await asyncio.sleep(WATCH_SECONDS)

    async def restarted() -> bool:
        return fleet.pid_of(victim) not in {0, pid}

    await wait_for(f"{victim} runs again", 60, restarted)
    return at, f"{victim} killed with some {in_flight:.0f} calls in flight"


def judge(calls: Calls, at: float, wait_for: float, charged: str, *, may_fail: bool) -> None:
    """Until the next kill, only calls that were in flight at this kill fail, and the rate is steady again soon."""
    end = at + WATCH_SECONDS
    failed, in_flight, steady = calls.failed(at, wait_for), calls.in_flight(at), calls.steady_after(at, end)
    print(f"{charged}: {len(failed)} of {in_flight} in flight failed, steady after {steady:.1f} s")
    print(f"  complete responses per 100 ms from then on: {calls.buckets(at, end)}")
    late = [call.started - at for call in failed if call.started > at + NOTICED_WITHIN_SECONDS]
    assert late == [], "calls failed that started after the kill"
    assert len(failed) <= (in_flight if may_fail else 0)
    assert steady <= STEADY_WITHIN_SECONDS


async def test_the_kill_of_a_replica_fails_only_the_calls_in_flight_there(
    replicated: Fleet, rate: int, rounds: int
) -> None:
    kills: list[tuple[Any, ...]] = []
    async with fixed_rate(replicated, MODEL, rate) as calls:
        await asyncio.sleep(WARM_SECONDS)
        for victim in ("orchestrator", "inference-worker", "metering") * rounds:
            kills.append((*await kill(replicated, victim, calls), victim))  # noqa: PERF401 - one after the other
    load = calls.load
    print(f"{len(load.completed)} completed at {rate}/s, {load.disconnected} disconnected, {dict(load.typed)}")

    assert (load.disconnected, load.untyped, calls.failed(0, kills[0][0])) == (0, [], [])
    for (at, charged, victim), (next_at, *_) in pairwise([*kills, (math.inf,)]):
        judge(calls, at, next_at, charged, may_fail=victim != "metering")  # a reservation can be repeated
    await ledger_checks.wait_until_exact(replicated, load)
