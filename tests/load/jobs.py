"""Measure jobs on a fleet of its own: `make bench-jobs`, or python -m tests.load.jobs --help.

Prints figures beside their goals, and asserts nothing: a busy machine is no bug. No process is pinned to a core: the
fleet, its stores, its provider and this client share the machine.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
from aiohttp import web

from tests.chaos.jobs import percentile
from tests.load import machine
from tests.load.bench_fleet import BenchFleet, bench_fleet, bench_ports

CLOCK = "clock"
"""An upstream in this process, which notes when a call comes."""
IN_FLIGHT = 64


class ClockProvider:
    """Answers a chat completion when it is allowed to."""

    def __init__(self) -> None:
        self.called_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.may_answer = asyncio.Event()

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post(f"/{CLOCK}/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    def reset(self) -> None:
        self.called_at = asyncio.get_running_loop().create_future()
        self.may_answer = asyncio.Event()

    async def _chat(self, request: web.Request) -> web.Response:
        self.called_at.set_result(time.time())
        await self.may_answer.wait()
        message = {"role": "assistant", "content": "an answer"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": CLOCK, "choices": choices}
        return web.json_response(answer | {"usage": usage})


class Client:
    """Submits jobs as a tenant, and pauses queues as an operator."""

    def __init__(self, fleet: BenchFleet, http: aiohttp.ClientSession, postgres: asyncpg.Connection) -> None:
        self._http = http
        self._jobs = f"{fleet.base_url}/v1/jobs"
        self._queues = f"{fleet.base_url}/admin/v1/queues"
        self._as_tenant = {"authorization": f"Bearer {fleet.api_key}"}
        self._as_admin = {"authorization": f"Bearer {fleet.admin_key}"}
        self.postgres = postgres

    async def submit(self, model: str) -> tuple[str, float]:
        """Submit a job; return its id, and the seconds until it was accepted."""
        messages = [{"role": "user", "content": "Who sails an argosy?"}]
        body = {"endpoint": "/v1/chat/completions", "body": {"model": model, "max_tokens": 64, "messages": messages}}
        started = time.monotonic()
        async with self._http.post(self._jobs, json=body, headers=self._as_tenant) as response:
            answer = await response.json()
        if response.status != 202:
            raise SystemExit(f"a job was refused: {answer}")
        return answer["id"], time.monotonic() - started

    async def pause(self, *, on: bool) -> None:
        url = f"{self._queues}/{'pause' if on else 'resume'}"
        async with self._http.post(url, json={"pool": "default"}, headers=self._as_admin) as response:
            response.raise_for_status()

    async def left(self) -> int:
        count: int = await self.postgres.fetchval("SELECT count(*) FROM orchestration.jobs")
        return count

    async def drained(self) -> None:
        while await self.left():
            await asyncio.sleep(0.05)


async def measure_idle(client: Client, provider: ClockProvider, count: int) -> None:
    """One job after the other: seconds to its first provider call, from its dispatch and from its acceptance."""
    since_dispatch, since_submit = [], []
    for _ in range(count):
        provider.reset()
        submitted_at = time.time()
        job_id, _ = await client.submit(CLOCK)
        called_at = await provider.called_at
        dispatched_at = await client.postgres.fetchval(
            "SELECT extract(epoch FROM dispatched_at)::float8 FROM orchestration.jobs WHERE job_id = $1", job_id
        )
        provider.may_answer.set()
        await client.drained()
        since_dispatch.append(called_at - dispatched_at)
        since_submit.append(called_at - submitted_at)
    show("dispatch to first provider byte, idle", since_dispatch, "p50 ≤ 60 ms")
    show("the same from the submission", since_submit, "")


async def measure_submissions(client: Client, rate: int, seconds: float) -> None:
    """Submit at a fixed rate whatever the answers take, while nothing is dispatched."""
    loop, began, calls = asyncio.get_running_loop(), time.monotonic(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        calls.append(loop.create_task(client.submit("instant")))
    show(f"submission at {rate}/s", [took for _, took in await asyncio.gather(*calls)], "p99 ≤ 25 ms")


async def measure_saturation(client: Client, seconds: float) -> None:
    """Submit with many in flight, while nothing is dispatched."""
    began, took = time.monotonic(), []

    async def submitter() -> None:
        while time.monotonic() - began < seconds:
            took.append((await client.submit("instant"))[1])

    await asyncio.gather(*(submitter() for _ in range(IN_FLIGHT)))
    spent = time.monotonic() - began
    print(f"  {'submissions at saturation':<40} {len(took) / spent:.0f}/s      (≥ 500/s)")


async def measure_drain(client: Client) -> None:
    """Run all that waits."""
    count, began = await client.left(), time.monotonic()
    await client.pause(on=False)
    await client.drained()
    spent = time.monotonic() - began
    print(f"  {'end to end, instant provider':<40} {count / spent:.0f} jobs/s of {count}      (≥ 250/s)")


def show(name: str, seconds: Sequence[float], goal: str) -> None:
    figures = f"p50 {statistics.median(seconds) * 1000:.1f} ms, p99 {percentile(seconds, 99) * 1000:.1f} ms"
    print(f"  {name:<40} {figures} of {len(seconds)}      {f'({goal})' if goal else ''}", flush=True)


async def measure(fleet: BenchFleet, port: int, options: argparse.Namespace) -> None:
    provider = ClockProvider()
    postgres = await asyncpg.connect(fleet.postgres_dsn)
    connector = aiohttp.TCPConnector(limit=1000)
    async with provider.serving(port), aiohttp.ClientSession(connector=connector) as http:
        client = Client(fleet, http, postgres)
        for _ in range(20):  # connections and caches
            await client.submit("instant")
        await client.drained()
        await measure_idle(client, provider, options.idle)
        await client.pause(on=True)
        await measure_submissions(client, 200, options.seconds)
        await measure_saturation(client, options.seconds)
        await measure_drain(client)
    await postgres.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each load (10)")
    parser.add_argument("--idle", type=int, default=100, help="jobs on the idle fleet, one after the other (100)")
    parser.add_argument("--workers", type=int, default=4, help="replicas of the inference worker (4)")
    options = parser.parse_args()
    port = bench_ports()[CLOCK]
    url = f"http://127.0.0.1:{port}/{CLOCK}/v1"
    with bench_fleet(f"inference-worker={options.workers}", more_upstreams={CLOCK: url}, pinned=False) as fleet:
        print(f"{machine.commit()} on {machine.describe()}", file=sys.stderr)
        asyncio.run(measure(fleet, port, options))


if __name__ == "__main__":
    main()
