"""Inference workers of a pool of their own, beside the fleet's: drills kill, freeze and restart them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from argosy_dev.fleet.paths import read_pairs

from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_process import OwnProcess, running
from tests.fleet.client import Fleet
from tests.fleet.control import provision_drill_topics
from tests.fleet.environment import DRILL_POOL, DRILL_WORKERS, PATHS, harness_ports


@asynccontextmanager
async def own_workers(
    fleet: Fleet, count: int, slots: int, *, drain_seconds: int = 30
) -> AsyncIterator[list[OwnProcess]]:
    """Run workers of the pool; the block begins when all are ready, and share the pool's topics."""
    await asyncio.to_thread(provision_drill_topics)
    ports, inherited = harness_ports(), psutil.Process(fleet.pid_of("inference-worker")).environ()
    workers = [
        OwnProcess(
            name,
            "inference_worker",
            inherited
            | {
                "INFERENCE_WORKER_GRPC__BIND": f"127.0.0.1:{ports[f'{name}-grpc']}",
                "INFERENCE_WORKER_OPS__PORT": str(ports[f"{name}-ops"]),
                "INFERENCE_WORKER_JOBS__POOL": DRILL_POOL,
                "INFERENCE_WORKER_JOBS__SLOTS": str(slots),
                "INFERENCE_WORKER_DRAIN": f"PT{drain_seconds}S",
            },
            ports[f"{name}-ops"],
        )
        for name in DRILL_WORKERS[:count]
    ]
    async with running(workers):
        # Those that an earlier drill has killed are members until their session times out.
        await wait_for("the workers are the members of their group", 60, partial(_is_settled, count))
        yield workers


async def _is_settled(members: int) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=read_pairs(PATHS.env)["ARGOSY_KAFKA_BOOTSTRAP"])
    try:
        await admin.start()
        (response,) = await admin.describe_consumer_groups([f"inference-worker-jobs-{DRILL_POOL}"])
        (_, _, state, _, _, found, *_) = response.groups[0]
    except KafkaError:
        return False
    finally:
        await admin.close()
    return bool(state == "Stable" and len(found) == members)
