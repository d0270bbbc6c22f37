"""Runs one simulation from its seed, and checks what is left at its end."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass
from datetime import timedelta
from logging import CRITICAL

from chassis.errors import ArgosyError, Kind
from chassis.telemetry import logs
from chassis.tenancy import Principal
from orchestrator.jobs.errors import JobFinished, JobNotFound
from orchestrator.jobs.model import JobKey, JobState
from orchestrator.jobs.submit import JobRequest

from services.orchestrator.tests.simulation.faults import cause_troubles, end_troubles
from services.orchestrator.tests.simulation.observer import MAX_CRASHES
from services.orchestrator.tests.simulation.provider import Behaviour
from services.orchestrator.tests.simulation.replica import MODEL
from services.orchestrator.tests.simulation.scenario import PlannedJob, draw_scenario
from services.orchestrator.tests.simulation.virtual_time import VirtualLoop
from services.orchestrator.tests.simulation.world import World

MAX_WAIT_SECONDS = 3_600.0
"""After the last trouble; the longest delays are five minutes, and there are five retries."""
AFTERMATH_SECONDS = 60.0
"""For late reports of frozen processes, and calls that nobody waits for any more."""
TRANSIENT = {Kind.UNAVAILABLE, Kind.TIMED_OUT}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation showed."""

    seed: int
    breaches: tuple[str, ...]
    trace: tuple[tuple[float, str], ...]
    jobs: int
    claims: int
    provider_calls: int
    seconds: float
    """Of virtual time."""

    @property
    def fingerprint(self) -> int:
        """The same for the same history."""
        return zlib.crc32("\n".join(f"{at:.6f} {text}" for at, text in self.trace).encode())


def simulate(seed: int) -> Outcome:
    """Run the simulation of `seed`; the same seed gives the same history."""
    random.seed(seed)  # the engine draws the jitter of its delays from here
    loop = VirtualLoop()
    threshold, logs._log.threshold = logs._log.threshold, CRITICAL
    try:
        return loop.run_until_complete(_run(seed))
    finally:
        logs._log.threshold = threshold
        loop.close()


async def _run(seed: int) -> Outcome:
    rng = random.Random(seed)
    world = World(rng, draw_scenario(rng))
    try:
        return await _play(seed, world)
    finally:
        for process in world.processes:
            process.is_over = True
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _play(seed: int, world: World) -> Outcome:
    scenario = world.scenario
    loop = asyncio.get_running_loop()
    for job in scenario.jobs:
        world.client.spawn(_submit(world, job))
    await cause_troubles(world)
    end_troubles(world)
    deadline = loop.time() + MAX_WAIT_SECONDS
    while not world.breaches and not _is_over(world) and loop.time() < deadline:
        world.changed.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await world.changed.wait()
        except TimeoutError:
            break
    if not world.breaches:
        await asyncio.sleep(AFTERMATH_SECONDS)
        _check_end(world)
    journal = world.provider.journal
    return Outcome(
        seed,
        tuple(world.breaches),
        tuple(world.trace),
        len(world.accepted),
        world.observer.claims,
        len(journal),
        loop.time(),
    )


def _is_over(world: World) -> bool:
    return len(world.accepted) == len(world.scenario.jobs) and all(
        row.job.state is JobState.QUARANTINED for row in world.store.rows.values()
    )


async def _submit(world: World, job: PlannedJob) -> None:
    await world.client.sleep(job.at)
    principal = Principal(job.tenant_id, "prj_1", "key_1", "", frozenset({"member"}), job.plan)
    body = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}],"max_tokens":{job.cost}}}'
    request = JobRequest(
        job.job_id, "/v1/chat/completions", body.encode(), deadline=timedelta(seconds=job.deadline_seconds)
    )
    while True:
        try:
            await world.call(world.client, lambda replica: replica.submissions.submit(principal, request))
        except ArgosyError as error:
            if error.kind not in TRANSIENT:
                world.breach(f"{job.job_id} was refused: {error.reason}: {error.message}")
                return
            await world.client.sleep(world.rng.uniform(0.1, 2))
            continue
        break
    key = JobKey(job.tenant_id, job.job_id)
    world.accepted.add(key)
    world.changed.set()
    if key not in world.store.rows and key not in world.store.finished:
        world.breach(f"{job.job_id} was accepted and is not stored")
    if job.cancel_after is not None:
        await world.client.sleep(job.cancel_after)
        await _cancel(world, key)


async def _cancel(world: World, key: JobKey) -> None:
    while True:
        try:
            await world.call(world.client, lambda replica: replica.cancellations.cancel(key))
        except JobFinished:
            return
        except ArgosyError as error:
            if error.kind not in TRANSIENT or isinstance(error, JobNotFound):
                world.breach(f"the cancellation of {key.job_id} was refused: {error.reason}")
                return
            await world.client.sleep(world.rng.uniform(0.1, 2))
            continue
        world.log(f"client: {key.job_id} is cancelled")
        world.observer.cancelled.add(key)
        final = world.observer.final.get(key)
        if final is not None and final.state is not JobState.CANCELLED:
            world.breach(f"{key.job_id} had {final.state} when its cancellation was confirmed")
        return


def _check_end(world: World) -> None:
    """Check what must hold when all is over."""
    for key in sorted(world.accepted):
        row, final = world.store.rows.get(key), world.observer.final.get(key)
        if row is None and final is None:
            world.breach(f"{key.job_id} is lost")
        elif row is not None and row.job.state is not JobState.QUARANTINED:
            world.breach(f"{key.job_id} is stuck: {row.job.state}")
    calls: set[tuple[str, int]] = set()
    for call in world.provider.journal:
        request_id, number = call.run.request_id, call.number
        if (request_id, number) in calls:
            world.breach(f"the call {number} of the run {request_id} was made twice")
        calls.add((request_id, number))
        settled = len(world.metering.settled_call(request_id, number))
        if settled != 1:
            world.breach(f"the call {number} of the run {request_id} is settled {settled} times")
    first_calls = sum(number == 1 for _, number in calls)
    if first_calls > world.observer.claims:
        world.breach(f"there are {first_calls} first calls and {world.observer.claims} runs")
    for job_id, killed in world.poisoned.items():
        if killed > MAX_CRASHES and world.provider.behaviours[job_id] is Behaviour.POISON:
            world.breach(f"{job_id} has killed {killed} workers")
    if world.metering.held and not world.replica_died:
        world.breach(f"money is held for {sorted(world.metering.held)}")
