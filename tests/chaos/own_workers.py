"""Inference workers of a pool of their own, beside the fleet's: drills kill, freeze and restart them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet
from tests.fleet.environment import DRILL_POOL, DRILL_WORKERS, harness_ports


@asynccontextmanager
async def own_workers(
    fleet: Fleet, count: int, slots: int, *, drain_seconds: int = 30
) -> AsyncIterator[list[OwnProcess]]:
    """Run workers of the pool; the block begins when all are ready."""
    ports, inherited = harness_ports(), psutil.Process(fleet.pid_of("inference-worker")).environ()
    workers = [
        OwnProcess(
            name,
            "inference_worker",
            inherited
            | {
                "INFERENCE_WORKER_GRPC__PORT": str(ports[f"{name}-grpc"]),
                "INFERENCE_WORKER_OPS__PORT": str(ports[f"{name}-ops"]),
                "INFERENCE_WORKER_JOBS__POOL": DRILL_POOL,
                "INFERENCE_WORKER_JOBS__SLOTS": str(slots),
                "INFERENCE_WORKER_DRAIN": str(drain_seconds),
            },
            ports[f"{name}-ops"],
        )
        for name in DRILL_WORKERS[:count]
    ]
    async with running(workers):
        yield workers
