"""CPU per request with more tenants, keys and rows, and larger bodies: `make bench-growth`.

The saturation load at more tenants, more keys, larger bodies and fuller tables; CPU per request at each step.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from tests.load import fill, scenarios, show, targets
from tests.load.bench import about, keep, log, warm
from tests.load.bench_fleet import STATE, BenchFleet, bench_fleet
from tests.load.figures import change_percent, median
from tests.load.scenarios import SCENARIOS, Scenario
from tests.load.targets import Target

TENANTS, KEYS, BODIES = (1, 10, 1_000), (10, 10_000), (1_024, 10_240, 1_048_576)
REQUESTS = 100_000
"""Settled requests of the past, with ten ledger entries each."""


def steps(bench: BenchFleet, load: Scenario, requests: int) -> Iterator[tuple[str, str, Scenario, Target]]:
    """Each step: its group, its name, the load and the target. Tables are filled last, because they stay full."""
    for count in TENANTS:
        yield "tenants", f"{count:,} tenants", load, _with_keys(bench, tenants=count, keys=max(count, 10))
    for count in KEYS:
        yield "keys", f"{count:,} keys of 10 tenants", load, _with_keys(bench, tenants=10, keys=count)
    mine = targets.fleet(bench)
    for size in BODIES:
        # Few at once: this measures the cost of a body, not of a queue.
        small = replace(load, size_bytes=size, connections=load.connections if size < 100_000 else 4)
        yield "bodies", f"{size // 1024:,} KB bodies", small, mine
    yield "tables", "tables as they are", load, mine
    log(f"filling the tables: {requests:,} requests, {requests * fill.ATTEMPTS * 2:,} ledger entries")
    asyncio.run(fill.add_ledger(bench.postgres_dsn, _tenant(bench), requests))
    yield "tables", f"with {requests:,} requests and {requests * fill.ATTEMPTS * 2:,} ledger entries", load, mine


def _with_keys(bench: BenchFleet, *, tenants: int, keys: int) -> Target:
    texts = asyncio.run(fill.add_keys(bench.postgres_dsn, tenants, keys))
    path = STATE / "keys.txt"
    path.write_text("\n".join(texts))
    path.chmod(0o600)
    return targets.fleet(bench, keys=(f"@{path}",))


def _first(target: Target) -> int:
    """Requests until every key is cached and buffers have grown."""
    return max(len(Path(target.keys[0][1:]).read_text().split()) if target.keys[0].startswith("@") else 0, 200)


def _tenant(bench: BenchFleet) -> str:
    headers = {"authorization": f"Bearer {bench.api_key}"}
    answer = httpx.get(f"{bench.base_url}/v1/budgets", headers=headers, timeout=30).raise_for_status()
    return str(answer.json()["data"][0]["tenant_id"])


def rows(grown: Sequence[dict[str, Any]]) -> show.Rows:
    """A row for each step, with the change from the first of its group."""
    table: show.Rows = [("", "requests/s", "CPU µs per request", "change", "p99, ms", "errors")]
    first: dict[str, float] = {}
    for step in grown:
        figures = step["median"]
        cost = figures.get("cpu_us_per_request", {}).get("all", 0.0)
        change = change_percent(cost, first.setdefault(step["group"], cost))
        cells = (show.number(figures["per_second"], 0), show.number(cost, 0), show.number(change, 0) + " %")
        table.append((step["name"], *cells, show.number(figures["latency_p99_ms"], 1), str(figures["errors"])))
    return table


def service_rows(grown: Sequence[dict[str, Any]]) -> show.Rows:
    """A row for each step, with the CPU of each service."""
    shares = [step["median"].get("cpu_us_per_request", {}) for step in grown]
    names = list(dict.fromkeys(name for share in shares for name in share))
    table: show.Rows = [("CPU µs per request", *names)]
    for step, share in zip(grown, shares, strict=True):
        table.append((step["name"], *(show.number(share.get(name), 0) for name in names)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each step is measured; medians are shown (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each run lasts (5)")
    parser.add_argument("--quick", action="store_true", help="two seconds each, once, 1,000 requests in the tables")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every run there, as JSON")
    options = parser.parse_args()
    runs, seconds, requests = (1, 2.0, 1_000) if options.quick else (options.runs, options.seconds, REQUESTS)
    load = replace(SCENARIOS[0], seconds=seconds)
    grown = []
    with bench_fleet() as bench:
        warm([targets.fleet(bench)], bench)
        for group, name, step, target in steps(bench, load, requests):
            log(f"{name}: {runs} times {step.seconds:.0f} s")
            scenarios.run(replace(step, seconds=60.0, requests=_first(target)), target, bench)
            taken = [scenarios.run(step, target, bench) for _ in range(runs)]
            grown.append({"group": group, "name": name, "median": median(taken), "runs": taken})
    results = about() | {"growth": grown}
    print("\n".join([*show.heading(results), "", *show.aligned(rows(grown)), "", *show.aligned(service_rows(grown))]))
    keep(results, options.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
