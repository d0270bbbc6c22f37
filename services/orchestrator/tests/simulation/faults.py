"""Carries out the troubles of a scenario, and ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.orchestrator.tests.simulation.scenario import TENANTS, Trouble

if TYPE_CHECKING:
    from services.orchestrator.tests.simulation.world import World


async def cause_troubles(world: World) -> None:
    """Return when the last one is over, or was caused, and its time has passed."""
    loop = asyncio.get_running_loop()
    for at, trouble in world.scenario.troubles:
        await asyncio.sleep(max(0.0, at - loop.time()))
        if world.breaches:
            return
        _cause(world, trouble)
    await asyncio.sleep(max(0.0, world.scenario.end_of_troubles - loop.time()))


def end_troubles(world: World) -> None:
    """From now on all peers can be reached, there is money, and nothing is paused."""
    world.log("all troubles end")
    for link in (world.store_link, world.metering_link, world.rpc_link):
        link.outage_until = link.slow_until = 0.0
    world.metering.is_exhausted = False
    world.topic.loss = 0.0
    world.store.pauses.clear()
    world.observer.paused.clear()


def _cause(world: World, trouble: Trouble) -> None:
    rng, now = world.rng, asyncio.get_running_loop().time()
    seconds = rng.uniform(3, 40)
    workers = [worker for worker in world.workers if worker.process.alive]
    replicas = [replica for replica in world.replicas if replica.process.alive]
    if trouble is Trouble.KILL_WORKER and workers:
        world.kill(rng.choice(workers), "killed")
    elif trouble is Trouble.FREEZE_WORKER and workers:
        worker = rng.choice(workers)
        world.log(f"{worker.process.name} freezes for {seconds:.0f} s")
        worker.process.freeze(seconds)
    elif trouble is Trouble.DRAIN_WORKER and workers:
        worker = rng.choice(workers)
        world.log(f"{worker.process.name} drains")
        worker.process.on_death.append(lambda: world.replace_later(worker))
        worker.process.spawn(worker.drain())
    elif trouble is Trouble.KILL_REPLICA and replicas:
        world.kill(rng.choice(replicas), "killed")
    elif trouble is Trouble.FREEZE_REPLICA and replicas:
        replica = rng.choice(replicas)
        world.log(f"{replica.process.name} freezes for {seconds:.0f} s")
        replica.process.freeze(seconds)
    else:
        _cause_outage(world, trouble, seconds, now)


def _cause_outage(world: World, trouble: Trouble, seconds: float, now: float) -> None:
    world.log(f"{trouble} for {seconds:.0f} s")
    loop = asyncio.get_running_loop()
    if trouble is Trouble.STORE_OUTAGE:
        world.store_link.outage_until = now + seconds / 2
    elif trouble is Trouble.SLOW_STORE:
        world.store_link.slow_until = now + seconds
    elif trouble is Trouble.PARTITION:
        world.rpc_link.outage_until = now + seconds
    elif trouble is Trouble.METERING_OUTAGE:
        world.metering_link.outage_until = now + seconds
    elif trouble is Trouble.NO_MONEY:
        world.metering.is_exhausted = True
        loop.call_later(seconds, setattr, world.metering, "is_exhausted", False)
    elif trouble is Trouble.LOSE_KAFKA:
        world.topic.lose_all(seconds)
    elif trouble is Trouble.PAUSE_TENANT:
        tenant = world.rng.choice(TENANTS)
        world.store.pauses.add((tenant, "", ""))
        world.observer.paused[tenant] = world.now()
