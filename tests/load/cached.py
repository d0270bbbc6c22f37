"""CPU and throughput of cached answers against answers that are made: exact hits, free and charged.

.venv/bin/python -m tests.load.cached [--requests 3000] [--runs 3]

The upstream answers at once, so what counts is the CPU of the five services for a request; they share one core. A miss
is a request that keeps its answer and takes none (`write`): it looks, calls the provider and keeps, and never hits.
All requests are equal, so a hit may have waited for the look of another.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

import asyncpg
import httpx

from tests.fleet.client import created
from tests.load import scenarios, targets
from tests.load.bench import log, warm
from tests.load.bench_fleet import STATE, BenchFleet, bench_fleet
from tests.load.figures import median
from tests.load.payloads import chat_body
from tests.load.scenarios import Scenario
from tests.load.show import Rows, aligned
from tests.load.targets import Target

CONNECTIONS = 32
WAYS = {
    "without the cache": ("free", "off"),
    "miss": ("free", "write"),
    "hit, free": ("free", "on"),
    "hit, discounted": ("discounted", "on"),
}
"""The charge of the route, and how its requests use the cache."""


def add_routes(bench: BenchFleet) -> None:
    headers = {"authorization": f"Bearer {bench.admin_key}"}
    with httpx.Client(base_url=bench.base_url, headers=headers, timeout=30) as admin:
        for charge in {charge for charge, _ in WAYS.values()}:
            route = {
                "reason": "a bench",
                "candidates": [{"upstream": "instant", "model": "instant"}],
                "cache": {"exact": True, "charge": charge},
            }
            created(admin.put(f"/admin/v1/routes/cached-{charge}", json=route))
    for name, (charge, mode) in WAYS.items():
        body = json.loads(chat_body(f"cached-{charge}"))
        path = STATE / f"body-cached-{charge}-{mode}.json"
        path.write_text(json.dumps(body | {"argosy": {"cache": {"mode": mode}}}))
        bench.bodies[name, False, Scenario(name, "").size_bytes] = path


async def _recorded(dsn: str) -> None:
    """Wait until the looks into the cache that metering counts are no more than a second ago."""
    connection = await asyncpg.connect(dsn)
    try:
        before = -1
        while (counted := await connection.fetchval("SELECT sum(lookups) FROM metering.cache_daily") or 0) != before:
            before = counted
            await asyncio.sleep(1)
    finally:
        await connection.close()


def _target(bench: BenchFleet) -> Target:
    """The fleet; free hits reserve nothing, so that nothing is held while their records are on their way."""
    target = targets.fleet(bench)

    def settle() -> float:
        seconds = target.settle()
        asyncio.run(_recorded(bench.postgres_dsn))
        return seconds

    return replace(target, settle=settle)


def measure(bench: BenchFleet, requests: int, runs: int) -> dict[str, Any]:
    """Measure each way in turns, and take medians."""
    target = _target(bench)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    for run in range(runs + 1):
        for name in WAYS:
            log(f"{name}: {requests}")
            load = Scenario(name, "", mode=name, requests=requests, connections=CONNECTIONS, seconds=120)
            figures = scenarios.run(load, target, bench)
            if run:  # the first round fills the cache
                taken[name].append(figures)
    return {name: median(figures) for name, figures in taken.items()}


def rows(figures: dict[str, Any]) -> Rows:
    services = list(figures["miss"]["cpu_us_per_request"])
    miss = figures["miss"]["cpu_us_per_request"]["all"]
    table: Rows = [("CPU, µs per request", *services, "miss / this")]
    for name, figure in figures.items():
        cpu = figure["cpu_us_per_request"]
        table.append((name, *(f"{cpu[service]:,.0f}" for service in services), f"{miss / cpu['all']:.2f}"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with bench_fleet() as bench:
        add_routes(bench)
        warm([targets.fleet(bench)], bench)
        figures = measure(bench, options.requests, options.runs)
    print("\n".join(aligned(rows(figures))))
    for name, figure in figures.items():
        print(f"{name}: {figure['answers']} answers, {figure['per_second']} a second, {figure['errors']} errors")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
