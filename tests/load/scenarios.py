"""The loads with their durations, and one run of a load on a target."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from tests.fleet.environment import ROOT
from tests.load import generate
from tests.load.bench_fleet import BenchFleet, end
from tests.load.generate import Plan
from tests.load.machine import AROUND, SUBJECT
from tests.load.targets import Target
from tests.load.watch import Reading

_SAMPLE_SECONDS = 2.0
MEGABYTE, KILOBYTE = 1e6, 1e3


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load."""

    name: str
    title: str
    mode: str = "instant"
    streamed: bool = False
    connections: int = 32
    rate: float = 0.0
    seconds: float = 10.0
    requests: int = 0
    size_bytes: int = 2048

    @property
    def quick(self) -> "Scenario":
        """The same for a few seconds, to test the bench."""
        return replace(self, seconds=min(self.seconds, 2.0))


SCENARIOS = (
    Scenario("saturation", "saturation: 32 at once, whole answers of 60 tokens"),
    Scenario("steady", "50 requests a second, whole answers of 60 tokens", rate=50, seconds=20, connections=64),
    Scenario(
        "paced", "50 streams at once, a chunk each 50 ms",
        mode="paced", streamed=True, rate=10, seconds=15, connections=80,
    ),
    Scenario("streams", "stream saturation: 32 at once, 100 chunks as fast as they go", streamed=True, seconds=8),
)  # fmt: skip
SOAK = Scenario("soak", "ten minutes of saturation", seconds=600)
"""Runs only when selected: does memory stay constant?"""
IDLE_STREAMS = 1000
_IDLE_RATE = 200


def run(scenario: Scenario, target: Target, bench_fleet: BenchFleet) -> dict[str, Any]:
    """Run a load on a target, wait until all usage is settled, and return the figures."""
    groups = target.groups()
    before = Reading.of(groups)
    outcome, memory = _load(plan_of(scenario, target, bench_fleet), target, bench_fleet)
    at_end = Reading.of(groups)
    drained = target.settle()
    after = Reading.of(groups)
    spent = after.cpu_since(before)
    # CPU of failed requests counts for the successful ones.
    count = {"request": outcome["answers"], "chunk": outcome.get("chunks", 0)}
    mine = {name: seconds for name, seconds in spent.items() if name in target.subjects}
    around = {name: seconds for name, seconds in spent.items() if name not in target.subjects}
    around["load"] = outcome.pop("cpu_seconds")
    busy = at_end.busy_percent_since(before)
    figures = outcome | {
        "drain_seconds": round(drained, 1),
        "busy_percent": {"subject": busy[SUBJECT], "around": busy[min(AROUND, len(busy) - 1)]},
    }
    for unit, number in count.items():
        if number:
            figures[f"cpu_us_per_{unit}"] = per(number, mine)
            figures[f"around_us_per_{unit}"] = per(number, around)
    if memory:
        figures["memory_mb"] = memory["most"]
        figures["memory_over_time_mb"] = memory["over_time"]
    return figures


def per(count: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """CPU in microseconds per request, with the sum as `all`."""
    shares = {name: round(spent / count * 1e6, 1) for name, spent in seconds.items()}
    return shares | {"all": round(sum(seconds.values()) / count * 1e6, 1)}


def plan_of(scenario: Scenario, target: Target, bench_fleet: BenchFleet) -> Plan:
    """The plan for the load generator."""
    return Plan(
        port=target.port,
        path=target.path(scenario.mode),
        body=str(bench_fleet.body(scenario.mode, streamed=scenario.streamed, size_bytes=scenario.size_bytes)),
        keys=target.keys,
        connections=scenario.connections,
        seconds=scenario.seconds,
        rate=scenario.rate,
        requests=scenario.requests,
        streamed=scenario.streamed,
    )


def _load(plan: Plan, target: Target, bench_fleet: BenchFleet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the load generator, and sample the memory of the measured processes."""
    with_subjects = [group for group in target.groups() if group.name in target.subjects]
    families = {group.name: group.family() for group in with_subjects}
    samples: list[dict[str, float]] = []
    generator = start_generator(plan, bench_fleet)
    try:
        while True:
            samples.append({name: sum(map(_resident, family)) / MEGABYTE for name, family in families.items()})
            try:
                out, _ = generator.communicate(timeout=_SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        if generator.poll() is None:
            end(generator)
    if generator.returncode:
        raise SystemExit(f"bench: the load generator ended with status {generator.returncode}")
    return json.loads(out), _memory(samples) if families else {}


def _memory(samples: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The peak of each, and the sum at the start, in the middle and at the end."""
    most = {name: round(max(sample[name] for sample in samples), 1) for name in samples[0]}
    chosen = (samples[0], samples[len(samples) // 2], samples[-1])
    over_time = [round(sum(sample.values())) for sample in chosen]
    return {"most": most | {"all": round(sum(most.values()), 1)}, "over_time": over_time}


def start_generator(plan: Plan, bench_fleet: BenchFleet) -> subprocess.Popen[str]:
    """Start the load generator on the core of the unmeasured processes."""
    return subprocess.Popen(
        [*bench_fleet.close_to(), "tests.load.generate", generate.write(plan)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def rest(target: Target) -> dict[str, float]:
    """Memory of the measured processes when idle."""
    memory = {
        group.name: round(group.memory_bytes() / MEGABYTE, 1)
        for group in target.groups()
        if group.name in target.subjects
    }
    return memory | {"all": round(sum(memory.values()), 1)}


def idle(target: Target, bench_fleet: BenchFleet, streams: int = IDLE_STREAMS) -> dict[str, Any]:
    """Open streams that stay silent after one chunk; return the memory per stream, by service."""
    plan = replace(
        plan_of(Scenario("idle", "", mode="silent", streamed=True), target, bench_fleet),
        connections=streams, requests=streams, rate=_IDLE_RATE, hold=True,
    )  # fmt: skip
    groups = [group for group in target.groups() if group.name in target.subjects]
    before = Reading.of(groups)
    generator = start_generator(plan, bench_fleet)
    try:
        assert generator.stdout is not None
        opened = json.loads(generator.stdout.readline() or '{"held": 0, "errors": 0}')
        time.sleep(1)
        held = Reading.of(groups)
        time.sleep(3)
        later = Reading.of(groups)
        out, _ = generator.communicate(timeout=30)
    finally:
        end(generator)
    target.settle()
    after = Reading.of(groups)
    count = opened["held"] or 1
    each = {name: round((held.memory[name] - before.memory[name]) / count / KILOBYTE, 1) for name in held.memory}
    return {
        "streams": opened["held"],
        "errors": opened["errors"],
        "problems": json.loads(out)["problems"] if out else {},
        "kb_per_stream": each | {"all": round(sum(each.values()), 1)},
        "cpu_percent_while_idle": round(100 * sum(later.cpu_since(held).values()) / (later.at - held.at), 1),
        "memory_mb_after": round(sum(after.memory.values()) / MEGABYTE, 1),
    }
