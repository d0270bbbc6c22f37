"""Each way in which a provider fails leads to its calls, its waits and its bill, on two replicas of each service.

The provider's journal says which calls were made, with which credential, and when; metering says who paid.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio

from tests.chaos import ledger_checks
from tests.chaos.callers import Tenant
from tests.chaos.journal import Begun, Journal, chat_body, count_held, read_requests
from tests.chaos.ledger_checks import wait_for
from tests.chaos.own_stack import Stack, own_stack
from tests.chaos.pairing import pair_all
from tests.chaos.refusal_rows import ROWS, Row
from tests.chaos.switched_models import error_code
from tests.fleet.client import Fleet, created
from tests.fleet.environment import harness_ports

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

REASON = {"reason": "a drill"}
PRICE = {"input_per_million_nano_usd": 1_000_000, "output_per_million_nano_usd": 10_000_000}
CANDIDATES = ("main", "next", "long", "frank")
WORKERS = 2
AFTER_REST = 7
"""Requests after one whose credential was refused."""
RESERVE, RETRY_RATIO = 5, 0.1
"""Retries that each worker may make for few requests, and then for each request."""
MAX_SECONDS = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(fleet: Fleet) -> AsyncIterator[Stack]:
    """What sends nothing for 5 s has failed."""
    settings = {"ORCHESTRATOR_TIMEOUTS__FIRST_BYTE": "5", "ORCHESTRATOR_TIMEOUTS__NON_STREAMED": "5"}
    async with own_stack(fleet, orchestrator=settings) as stack:
        yield stack


@dataclass(slots=True)
class Drill:
    """A row in progress: an upstream with two credentials, a route with four candidates, and a tenant."""

    name: str
    row: Row
    upstream: str
    model: str
    tenant: Tenant
    codes: dict[int, str] = field(default_factory=dict)
    """Of the answer to each request, by its number."""
    first_key: str = ""

    @property
    def keys(self) -> tuple[str, str]:
        return f"sk-{self.upstream}-a", f"sk-{self.upstream}-b"

    def upstream_model(self, candidate: str) -> str:
        return f"switched?name={self.upstream}.{candidate}"

    async def ask(self, http: httpx.AsyncClient, *, stream: bool = False) -> int:
        """Send a request to its end; return its number."""
        number = self.tenant.number()
        body = chat_body(self.model, self.tenant.id, number, stream=stream)
        headers = {"authorization": f"Bearer {self.tenant.key}"}
        self.codes[number] = error_code(await http.post("/v1/chat/completions", json=body, headers=headers))
        return number

    def calls(self, begun: Sequence[Begun], request: int) -> str:
        """The calls of a request as rows write them."""
        of_request = [one for one in begun if one.request == request]
        return " ".join(f"{self.candidate(one)}/{1 if one.key == self.first_key else 2}" for one in of_request)

    def candidate(self, call: Begun) -> str:
        return call.model.rpartition(".")[2]


async def declare(fleet: Fleet, admin: httpx.AsyncClient, name: str, row: Row) -> Drill:
    """Declare the upstream of a row, which is at the journaled provider, and its route."""
    drill = Drill(
        name, row, fleet.unique("refusals"), fleet.unique("sim-refusals"), Tenant(*await fleet.create_tenant())
    )
    url = f"http://127.0.0.1:{harness_ports()['journaled']}/{drill.upstream}/v1"
    created(
        await admin.put(f"/admin/v1/upstreams/{drill.upstream}", json={**REASON, "kind": "openai", "base_url": url})
    )
    for key in drill.keys:
        credential = {**REASON, "secret": key}
        created(await admin.post(f"/admin/v1/upstreams/{drill.upstream}/credentials", json=credential))
    models = [drill.upstream_model(candidate) for candidate in CANDIDATES]
    for model in models:
        created(await admin.post("/admin/v1/prices", json={"price_key": f"{drill.upstream}/{model}", **PRICE}))
    main, following, long, frank = ([{"upstream": drill.upstream, "model": model}] for model in models)
    fallbacks = {"context_overflow": long, "content_policy": frank}
    route = {**REASON, "candidates": main + following, "fallbacks": fallbacks}
    created(await admin.put(f"/admin/v1/routes/{drill.model}", json=route))
    return drill


async def run(drill: Drill, http: httpx.AsyncClient, journal: Journal) -> None:
    """Wait until both orchestrators know the route, then let its first candidate fail, and send the requests."""
    row, in_a_row = drill.row, 0
    async with asyncio.timeout(MAX_SECONDS):
        while in_a_row < 8:
            in_a_row = in_a_row + 1 if not drill.codes.get(await drill.ask(http)) else 0
    drill.codes.clear()
    drill.first_key = journal.begun([drill.tenant.id])[-1].key
    journal.switch(f"{drill.upstream}.main", row.does, drill.first_key if row.first_key_only else "")
    for number in range(row.requests):
        await drill.ask(http, stream=number % 2 == 0 if row.stream is None else row.stream)
    for _ in range(AFTER_REST if row.rests else row.more):
        await drill.ask(http)
    if row.asks:
        await ask_until_called_again(drill, http, journal)


async def ask_until_called_again(drill: Drill, http: httpx.AsyncClient, journal: Journal) -> None:
    """Send requests until the first candidate is called after the time for which the provider asked for peace."""
    (began, *_) = main_calls(drill, journal)
    async with asyncio.timeout(MAX_SECONDS):
        while main_calls(drill, journal)[-1] < began + drill.row.asks:
            await drill.ask(http)
            await asyncio.sleep(0.1)


def main_calls(drill: Drill, journal: Journal) -> list[float]:
    """When the first candidate was called by the requests of the row."""
    begun = journal.begun([drill.tenant.id])
    return [one.at for one in begun if one.request in drill.codes and drill.candidate(one) == "main"]


async def test_each_failure_of_a_provider_leads_to_its_calls_its_waits_and_its_bill(
    fleet: Fleet, journal: Journal, stack: Stack
) -> None:
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=60) as admin:
        drills = await asyncio.gather(*(declare(fleet, admin, name, row) for name, row in ROWS.items()))
    began = time.time()
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        await asyncio.gather(*(run(drill, http, journal) for drill in drills))
    tenants = [drill.tenant.id for drill in drills]

    async def settled() -> bool:
        held = [await count_held(fleet, tenant) for tenant in tenants]
        return not any(held) and not await ledger_checks.violations(fleet)

    await wait_for("each request is settled, and the ledger is exact", 120, settled)
    print(f"{len(drills)} rows in {time.time() - began:.0f} s")
    faults = [fault for drill in drills for fault in await judge(fleet, journal, drill)]
    pairing = pair_all(journal.calls(tenants), await read_requests(fleet, tenants))
    assert faults + pairing.unpaired == []


async def judge(fleet: Fleet, journal: Journal, drill: Drill) -> list[str]:
    """Print what became of a row; return what should not have."""
    row, begun = drill.row, journal.begun([drill.tenant.id])
    requests = await read_requests(fleet, [drill.tenant.id])
    exact = list(drill.codes)[: row.requests]
    calls = Counter(drill.calls(begun, number) for number in exact)
    codes = Counter(drill.codes[number] for number in exact)
    paid = Counter(
        " ".join(one.outcome for one in requests[drill.tenant.id, number].settlements if one.outcome != "pending")
        for number in exact
    )
    first = [one.at for one in begun if one.request == exact[0]]
    waited = first[1] - first[0] if len(first) > 1 else 0.0
    print(f"{drill.name}: {dict(calls)}, {dict(codes)}, {dict(paid)}, second call after {waited:.2f} s")
    expected = (calls, codes, paid) == tuple({value: row.requests} for value in (row.calls, row.code, row.paid))
    faults = [] if expected else [f"{drill.name}: {calls} {codes} {paid}"]
    if waited < row.waits:
        faults.append(f"{drill.name}: the second call came after {waited} s")
    return faults + judge_rest(drill, begun, list(drill.codes)[row.requests :])


def judge_rest(drill: Drill, begun: Sequence[Begun], later: Sequence[int]) -> list[str]:
    """Return what is wrong with the requests after those whose calls are given."""
    faults = [f"{drill.name}: a later request got {drill.codes[one]}" for one in later if drill.codes[one]]
    made = [one for one in begun if one.request in later]
    if drill.row.rests:
        refused = sum(one.key == drill.first_key for one in made)
        print(f"{drill.name}: {len(later)} more requests, {refused} more calls with the refused credential")
        # The other worker may not have been told yet.
        if refused > WORKERS - 1:
            faults.append(f"{drill.name}: {refused} more calls with the refused credential")
    if drill.row.more:
        calls = Counter(one.request for one in begun if one.request in drill.codes and drill.candidate(one) == "main")
        retries = sum(count - 1 for count in calls.values())
        print(f"{drill.name}: {len(later)} more requests, {calls.total()} calls in all, {retries} of them retries")
        if retries > WORKERS * RESERVE + RETRY_RATIO * len(drill.codes):
            faults.append(f"{drill.name}: {retries} retries")
    if drill.row.asks:
        at = sorted(one.at for one in begun if one.request in drill.codes and drill.candidate(one) == "main")
        early = [one for one in at if one < at[0] + drill.row.asks - 0.1]
        again = next(one for one in at if one not in early) - at[0]
        print(f"{drill.name}: {len(later)} more requests, {len(early)} calls before {again:.1f} s had passed")
        if len(early) > WORKERS * len(drill.keys):
            faults.append(f"{drill.name}: {len(early)} calls within {drill.row.asks} s")
    return faults
