"""Two replicas of a service share its load, and the kill of one fails only the calls in flight there."""

import asyncio
import math
import os
import re
import signal
import time
from dataclasses import dataclass

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
WARM_SECONDS, WATCH_SECONDS = 1.0, 1.2
"""Least times under load: before a kill, and after it, which is as long as it takes to see a steady second."""
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
    async with httpx.AsyncClient(timeout=60) as http:
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


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill, with monotonic times, and a line to print."""

    victim: str
    at: float
    recovered_at: float
    charged: str


async def kill(fleet: Fleet, victim: str, calls: Calls) -> Kill:
    """Kill a replica with SIGKILL under load, and wait until it runs again and the rate is steady."""

    async def steady() -> bool:
        now = time.monotonic()
        return calls.steady_after(now - WARM_SECONDS, now) == 0

    await wait_for("the rate is steady before the kill", 60, steady)
    in_flight = await metric(fleet, victim, r"argosy_grpc_server_in_flight")
    pid = fleet.pid_of(victim)
    os.kill(pid, signal.SIGKILL)
    at = time.monotonic()
    await asyncio.sleep(WATCH_SECONDS)

    async def recovered() -> bool:
        return fleet.pid_of(victim) not in {0, pid} and calls.steady_after(at, time.monotonic()) < math.inf

    await wait_for(f"{victim} runs again, and the rate is steady", 60, recovered)
    return Kill(victim, at, time.monotonic(), f"{victim} killed with some {in_flight:.0f} calls in flight")


def judge(calls: Calls, kill: Kill, wait_for: float, within_seconds: float) -> None:
    """Until the next kill, only calls that were in flight at this kill fail, and the rate is steady again soon."""
    at, end = kill.at, kill.recovered_at
    failed, in_flight, steady = calls.failed(at, wait_for), calls.in_flight(at), calls.steady_after(at, end)
    print(f"{kill.charged}: {len(failed)} of {in_flight} in flight failed, steady after {steady:.1f} s")
    print(f"  complete responses per 100 ms from then on: {calls.buckets(at, end)}")
    late = [call.started - at for call in failed if call.started > at + NOTICED_WITHIN_SECONDS]
    assert late == [], "calls failed that started after the kill"
    assert len(failed) <= (0 if kill.victim == "metering" else in_flight)  # a reservation can be repeated
    assert steady <= within_seconds


async def test_the_kill_of_a_replica_fails_only_the_calls_in_flight_there(
    replicated: Fleet, rate: int, rounds: int, steady_within_seconds: float
) -> None:
    kills: list[Kill] = []
    async with fixed_rate(replicated, MODEL, rate) as calls:
        await asyncio.sleep(WARM_SECONDS)
        for victim in ("orchestrator", "inference-worker", "metering") * rounds:
            kills.append(await kill(replicated, victim, calls))  # noqa: PERF401 - one after the other
    load = calls.load
    print(f"{len(load.completed)} completed at {rate}/s, {load.disconnected} disconnected, {dict(load.typed)}")

    assert (load.disconnected, load.untyped, calls.failed(0, kills[0].at)) == (0, [], [])
    for one, next_at in zip(kills, [*(later.at for later in kills[1:]), math.inf], strict=True):
        judge(calls, one, next_at, steady_within_seconds)
    await ledger_checks.wait_until_exact(replicated, load)
