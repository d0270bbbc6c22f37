"""Postgres, Redis, Kafka and models for pods: `python -m tests.cluster.stores HOST`.

They run on this machine, and pods reach them at HOST, an address of this machine. It prints their addresses as one line
of JSON, and stops them at SIGTERM or when its input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.fleet.ports import LOOPBACK, assign
from argosy_dev.fleet.process_spec import ProcessSpec
from argosy_dev.parts import kafka, postgres, redis
from argosy_dev.parts.models import smollm

from tests.cluster.embedder import serve_embedder
from tests.simulators.upstream import UpstreamSimulator

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".argosy" / "cluster"
PARTS = ("postgres", "redis", "kafka", "kafka-controller", "model")
CHUNK_BYTES = 1 << 16


async def serve(host: str) -> None:
    shutil.rmtree(STATE, ignore_errors=True)
    paths = FleetPaths(root=STATE, assets=ROOT / ".argosy")
    paths.create()
    ports = assign(PARTS, {})
    specs = [
        postgres.postgres_spec(paths, ports["postgres"]),
        redis.redis_spec(paths, ports["redis"]),
        kafka.kafka_spec(paths, ports["kafka"], ports["kafka-controller"], host),
        smollm.model_spec(paths, ports["model"]),
    ]
    async with AsyncExitStack() as stack:
        for spec in specs:
            await _start(spec, paths, stack)
        # These listen on the loopback alone, as the parts of every fleet do.
        for name in ("postgres", "redis", "model"):
            relay = await asyncio.start_server(partial(_relay, ports[name]), host, ports[name])
            stack.push_async_callback(_close, relay)
        embeddings = await stack.enter_async_context(serve_embedder(host, paths.minilm))
        simulator = await stack.enter_async_context(UpstreamSimulator(host=host))
        addresses = {
            "TESTS_CLUSTER_POSTGRES_DSN": postgres.dsn(paths, ports["postgres"]).replace(LOOPBACK, host),
            "TESTS_CLUSTER_REDIS_URL": f"redis://{host}:{ports['redis']}/0",
            "TESTS_CLUSTER_KAFKA": f"{host}:{ports['kafka']}",
            "TESTS_CLUSTER_MODEL_URL": f"http://{host}:{ports['model']}/v1",
            "TESTS_CLUSTER_EMBEDDINGS_URL": embeddings,
            "TESTS_CLUSTER_SIMULATOR_URL": f"{simulator.url}/v1",
        }
        print(json.dumps(addresses), flush=True)
        await _wait_for_end()


async def _start(spec: ProcessSpec, paths: FleetPaths, stack: AsyncExitStack) -> None:
    if missing := spec.missing():
        raise SystemExit(f"{missing} is missing: run `make setup`.")
    await asyncio.to_thread(spec.prepare)
    log = paths.open_log(spec.name)
    process = await asyncio.create_subprocess_exec(
        *spec.command(),
        env={**os.environ, **spec.environment()},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    stack.push_async_callback(_stop, process, spec)
    assert spec.probe is not None
    async with asyncio.timeout(spec.start_seconds):
        while not await spec.probe():
            if process.returncode is not None:
                raise SystemExit(f"{spec.name} ended with {process.returncode}; its log is in {paths.logs}")
            await asyncio.sleep(0.1)


async def _stop(process: asyncio.subprocess.Process, spec: ProcessSpec) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(spec.stop)
    try:
        await asyncio.wait_for(process.wait(), spec.grace_seconds)
    except TimeoutError:
        process.kill()


async def _close(server: asyncio.Server) -> None:
    server.close()


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect a caller with the same port of the loopback."""
    try:
        back_reader, back_writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def _wait_for_end() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with suppress(OSError, ValueError):
        loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 1) else ended.set())
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
