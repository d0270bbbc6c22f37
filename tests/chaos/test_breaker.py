"""An upstream that is dead, hangs, flaps or is slow gets few calls, and is used again soon after it recovers.

Two orchestrators and two workers share the circuits. The provider's journal says which calls were made, and when.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest
import pytest_asyncio

from tests.chaos import ledger_checks
from tests.chaos.journal import Journal, read_requests
from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_stack import Stack, own_stack
from tests.chaos.pairing import pair_all
from tests.chaos.switched_models import Drill, under_load
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="session")]

FIRST_BYTE_SECONDS = 2.0
"""What hangs for longer has failed."""
SLOW_SECONDS = 0.5
"""On a machine that others use, healthy answers may take longer; so only the long form has this limit."""
FAULTS = {
    "dead": "refuse?status=503",
    "hung": "answer?wait=60",
    "flapping": "refuse?status=500",
    "slow": "answer?wait=1",
    "provoked": "refuse?status=500",
}
"""What the provider does while it fails; one that flaps does so every second time, a provoked one with one tenant."""
SHORT = {"dead": 1, "hung": 1, "hung for two": 2, "flapping": 2, "provoked": 2}
"""The drills, and how many tenants call. A name begins with its fault."""
LONG = SHORT | {"dead for two": 2, "slow": 1}
FLAP_SECONDS = 2.0
PAUSE_OF_OPEN_SECONDS = 0.6
"""A circuit is open when no call came for so long, while clients went on: the first probe is a second away."""

MAX_CALLS, MAX_SECONDS = 10, 2.0
"""A circuit opens within so many calls, or within this time after a failure is known."""
MAX_ATTEMPTS = 1.1
"""For each request."""
MAX_SECONDS_TO_CLOSE = 15.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(fleet: Fleet, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """Two orchestrators with short time-outs, and two workers; in the long form they open circuits of slow answers."""
    long = bool(request.config.getoption("--long", default=False))
    seconds = str(FIRST_BYTE_SECONDS)
    short = {"ORCHESTRATOR_TIMEOUTS__FIRST_BYTE": seconds, "ORCHESTRATOR_TIMEOUTS__NON_STREAMED": seconds}
    worker = {"INFERENCE_WORKER_CIRCUITS__SLOW_FIRST_BYTE": str(SLOW_SECONDS)} if long else {}
    async with own_stack(fleet, orchestrator=short, worker=worker) as stack:
        yield stack


@pytest.mark.degraded(
    down="provider",
    area="sync",
    holds="few calls are tried, the others end at once, and it is used soon after it is back",
)
async def test_a_failing_upstream_gets_few_calls_and_is_used_soon_after_it_recovers(
    fleet: Fleet, journal: Journal, stack: Stack, long: bool
) -> None:
    async with under_load(fleet, stack.base_url, LONG if long else SHORT) as drills:
        broken_at = await fail(journal, drills, 40 if long else 10)
        recovered_at = time.time()
        await wait_until_recovered(stack, drills, recovered_at)
    await judge(fleet, journal, drills, broken_at, recovered_at)


async def test_a_restart_of_redis_while_circuits_are_open_adds_few_calls(
    fleet: Fleet, journal: Journal, stack: Stack
) -> None:
    async def restart_redis() -> None:
        await asyncio.sleep(3)
        pid = fleet.pid_of("redis")
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return fleet.pid_of("redis") not in {0, pid}

        await wait_for("redis runs again", 60, restarted)

    async with under_load(fleet, stack.base_url, {"dead": 1}) as drills:
        restarting = asyncio.create_task(restart_redis())
        broken_at = await fail(journal, drills, 10)
        await restarting
        recovered_at = time.time()
        await wait_until_recovered(stack, drills, recovered_at)
    await judge(fleet, journal, drills, broken_at, recovered_at)


async def fail(journal: Journal, drills: Sequence[Drill], seconds: float) -> float:
    """Let the provider fail for so long, then answer again; return when it began."""
    began = time.time()
    for drill in drills:
        switch(journal, drill, FAULTS[fault_of(drill)])
    flaps = 0
    while (left := began + seconds - time.time()) > 0:
        await asyncio.sleep(min(left, FLAP_SECONDS))
        flaps += 1
        for drill in drills:
            if fault_of(drill) == "flapping":
                switch(journal, drill, "answer" if flaps % 2 else FAULTS["flapping"])
    for drill in drills:
        switch(journal, drill, "answer")
    return began


def fault_of(drill: Drill) -> str:
    return drill.name.partition(" ")[0]


def switch(journal: Journal, drill: Drill, mode: str) -> None:
    """Answer so from now on, a provoked fault with its first tenant only."""
    journal.switch(drill.switch, mode, drill.tenants[0].id if fault_of(drill) == "provoked" else "")


async def wait_until_recovered(stack: Stack, drills: Sequence[Drill], recovered_at: float) -> None:
    """Wait until each model has answered, and no circuit is open in either worker."""

    async def recovered() -> bool:
        return all(drill.answered_all_since(recovered_at) for drill in drills) and not sum(await open_circuits(stack))

    await wait_for("all models answer, and all circuits are closed", 60, recovered, interval=0.1)
    print(f"all circuits closed in both workers {time.time() - recovered_at:.1f} s after the recovery")


async def open_circuits(stack: Stack) -> list[float]:
    """How many circuits are open in each worker."""
    found = []
    async with httpx.AsyncClient(timeout=30) as http:
        for worker in stack.workers:
            text = (await http.get(worker.ready_url.replace("readyz", "metrics"))).text
            lines = [line for line in text.splitlines() if line.startswith("inference_worker_open_circuits{")]
            found.append(sum(float(line.rpartition(" ")[2]) for line in lines))
    return found


@dataclass(frozen=True, slots=True)
class Figures:
    """One fault in figures."""

    requests: int
    calls: int
    """While the provider failed."""
    calls_to_open: int
    seconds_to_open: float
    seconds_to_answer: float
    codes: Mapping[str, int]
    verdicts: Mapping[str, int]

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.calls} calls ({self.calls / self.requests:.2f} each), open after "
            f"{self.calls_to_open} calls or {self.seconds_to_open:.1f} s, answered {self.seconds_to_answer:.1f} s "
            f"after the recovery; {dict(self.codes)}; paid {dict(self.verdicts)}"
        )


async def judge(fleet: Fleet, journal: Journal, drills: Sequence[Drill], broken_at: float, recovered_at: float) -> None:
    """Print the figures of each fault, then compare them with what is promised."""
    tenants = [tenant_id for drill in drills for tenant_id in drill.tenant_ids]

    async def paired() -> bool:
        if await ledger_checks.violations(fleet):
            return False
        return not pair_all(journal.calls(tenants), await read_requests(fleet, tenants)).unpaired

    await wait_for("each call has its settlement, and the ledger is exact", 120, paired)
    found = []
    for drill in drills:
        found.append((drill, await figures_of(fleet, journal, drill, broken_at, recovered_at)))
        print(f"{drill.name}: {found[-1][1]}")
    for drill, figures in found:
        fault = fault_of(drill)
        known_after = FIRST_BYTE_SECONDS if fault == "hung" else 0.0
        assert figures.calls <= MAX_ATTEMPTS * figures.requests, drill.name
        assert figures.seconds_to_answer <= MAX_SECONDS_TO_CLOSE, drill.name
        if fault not in {"slow", "provoked"}:  # known after ten answers; only one tenant's
            opened = figures.calls_to_open <= MAX_CALLS or figures.seconds_to_open <= MAX_SECONDS + known_after
            assert opened, drill.name
        if fault == "provoked":
            others = [one for one in drill.answers if one.tenant == drill.tenants[1].id]
            codes = Counter(one.code or "answered" for one in others)
            print(f"{drill.name}: the other tenant got {dict(codes)}")
            assert not codes["upstream_unavailable"], drill.name


async def figures_of(fleet: Fleet, journal: Journal, drill: Drill, broken_at: float, recovered_at: float) -> Figures:
    """Count one drill, when all its calls have their settlements."""
    # Of a provoked fault, the tenant whose calls fail.
    tenants = drill.tenant_ids[:1] if fault_of(drill) == "provoked" else drill.tenant_ids
    calls = sorted(one.at for one in journal.begun(tenants) if broken_at <= one.at < recovered_at)
    answers = [one for one in drill.answers if one.tenant in tenants]
    failing = [one for one in answers if broken_at <= one.began < recovered_at]
    pause = PAUSE_OF_OPEN_SECONDS + (FIRST_BYTE_SECONDS if fault_of(drill) == "hung" else 0.0)
    gaps = (place for place, (one, next_one) in enumerate(pairwise(calls), 1) if next_one - one > pause)
    to_open = next(gaps, len(calls))
    pairing = pair_all(journal.calls(tenants), await read_requests(fleet, tenants))
    return Figures(
        len(failing),
        len(calls),
        to_open,
        calls[to_open - 1] - broken_at if calls else 0.0,
        min(one.ended for one in answers if one.began >= recovered_at and not one.code) - recovered_at,
        Counter(one.code or "answered" for one in failing),
        pairing.verdicts,
    )
