"""Whatever dies or hangs, every call that a provider received has exactly one settlement, of its own candidate.

Tenants call models whose first candidate fails in one of several ways, while all parts are killed and frozen at random.
When it is quiet again, the provider's journal is compared with metering's settlements, call by call (`pairing.py`).
"""

import asyncio
import random
import time

import pytest

from tests.chaos import ledger_checks
from tests.chaos.callers import Calling, Tenant, calling
from tests.chaos.faults import Faults
from tests.chaos.journal import Journal, add_models, read_requests
from tests.chaos.own_gateway import OwnGateway
from tests.chaos.pairing import VERDICTS, Pairing, pair_all
from tests.fleet.client import Fleet
from tests.fleet.control import FIRST_REPLICAS, SECOND_REPLICAS, start

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]

CHEAP, DEAR = (1_000_000, 10_000_000), (100_000_000, 1_000_000_000)
ANSWERS = "answer?wait=0.4&interval=0.05&late=0.2"
"""The second candidate: a hundred times the price of the first, and slow enough to be hit while it answers."""
ROUTES = {
    "pair-refused": ("refuse?status=500", ANSWERS),
    "pair-limited": ("refuse?status=429", ANSWERS),
    "pair-late-refusal": ("refuse?status=503&wait=0.4", ANSWERS),
    "pair-dropped": ("cut?wait=1.2&chunks=0", ANSWERS),
    "pair-cut": ("cut?wait=1.2&chunks=3", ANSWERS),
    "pair-slow": ("answer?wait=1.0", ANSWERS),
}
PRICES = {candidates[0]: CHEAP for candidates in ROUTES.values()} | {ANSWERS: DEAR}
TIGHT_CAP_USD = "0.004"
"""Room for some requests of one tenant: reservations, and second attempts, are refused too."""

SERVICES = ("gateway", *(f"{name}{n}" for name in ("orchestrator", "inference-worker", "metering") for n in ("", "-2")))
STORES = ("redis", "kafka", "postgres")
QUIET_SECONDS, LATE_EVENTS_SECONDS = 120.0, 20.0
"""Time for leases to end and outboxes to empty, then for usage events that were late."""


@pytest.mark.degraded(
    down="provider", area="money", holds="each attempt has one settlement of its own: billed, released, or exposed"
)
async def test_every_provider_call_has_one_settlement_of_its_own_candidate(
    fleet: Fleet, journal: Journal, gateway: OwnGateway, chaos_seed: int, pairing_seconds: int
) -> None:
    long, rng = bool(pairing_seconds), random.Random(chaos_seed)
    print(f"seed {chaos_seed}: repeat with --seed {chaos_seed}")
    await asyncio.to_thread(start, (*FIRST_REPLICAS, *SECOND_REPLICAS))
    await add_models(fleet, ROUTES, PRICES, by_class=True)
    tenants = [Tenant(*await fleet.create_tenant()) for _ in range(5 if long else 3)]
    tenants.append(Tenant(*await fleet.create_tenant(TIGHT_CAP_USD)))
    faults = Faults(
        rng,
        lambda part: gateway.pid if part == "gateway" else fleet.pid_of(part),
        max_freeze_seconds=9 if long else 1.5,  # 9 s are longer than a lease
        max_pause_seconds=3 if long else 0.7,
    )
    async with calling(gateway.base_url, tenants, list(ROUTES), rng) as seen:
        await asyncio.sleep(1)
        await faults.run((*SERVICES, *STORES) if long else SERVICES, pairing_seconds)
    ended_at = time.monotonic()
    pairing = await wait_until_paired(fleet, journal, [tenant.id for tenant in tenants])
    print(f"  {'duration':<23} {seen.seconds:.0f} s under load, {time.monotonic() - ended_at:.0f} s until paired")
    show(pairing, seen, faults)
    assert pairing.unpaired == []
    assert pairing.calls
    assert seen.load.untyped == []
    assert await ledger_checks.violations(fleet) == {}
    wrong = await ledger_checks.wrongly_charged(fleet, seen.load)
    # Usage that died with its process after its response is exposed, not billed.
    assert {request: costs for request, costs in wrong.items() if (costs[1] or 0) > costs[0]} == {}


async def wait_until_paired(fleet: Fleet, journal: Journal, tenants: list[str]) -> Pairing:
    """Wait until no lease runs and no event waits, then for late events; return the last comparison."""

    async def quiet() -> bool:
        return not await ledger_checks.violations(fleet)

    try:
        await ledger_checks.wait_for("all leases have ended and all outboxes are empty", QUIET_SECONDS, quiet)
    except BaseException:
        print(f"violated invariants: {await ledger_checks.violations(fleet)}")
        raise
    deadline, good = time.monotonic() + LATE_EVENTS_SECONDS, 0
    while True:
        pairing = pair_all(journal.calls(tenants), await read_requests(fleet, tenants))
        good = good + 1 if not pairing.unpaired and await quiet() else 0
        if good == 2 or time.monotonic() >= deadline:
            return pairing
        await asyncio.sleep(1)


def show(pairing: Pairing, seen: Calling, faults: Faults) -> None:
    """Print the table of the drill."""
    rows = {
        "requests": f"{seen.sent} sent, {len(seen.load.completed)} complete, {seen.abandoned} abandoned, "
        f"{seen.load.disconnected} disconnected, errors {dict(seen.load.typed)}",
        "calls": pairing.calls,
        **{name: pairing.verdicts[name] for name in VERDICTS},
        "unpaired": f"{len(pairing.unpaired)} {dict(+pairing.kinds)}",
        "exposed without a call": pairing.without_call,
        "kills": f"{faults.kills.total()} {dict(faults.kills)}",
        "freezes": f"{faults.freezes.total()} {dict(faults.freezes)}",
        "faults left out": faults.skipped,
    }
    for name, value in rows.items():
        print(f"  {name:<23} {value}")
    for sentence in pairing.unpaired[:10]:
        print(f"  unpaired: {sentence}")
