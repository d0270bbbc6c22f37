"""When a cached answer is given, and that each is recorded once."""

import asyncio
from dataclasses import replace

from orchestrator.response_cache.model import Charge
from values.usage import CacheOutcome

from services.orchestrator.tests.unit.response_cache.test_chat import ON, USAGE, a_harness, ask, outcomes


async def test_an_answer_that_costs_something_is_given_once_its_charge_is_recorded() -> None:
    harness = a_harness(replace(ON, charge=Charge.FULL))
    await ask(harness, 1)
    harness.outbox.gate.clear()
    asked = asyncio.create_task(harness.generate(request_id="req_2"))
    while harness.outbox.tries < 2:
        await asyncio.sleep(0)
    assert not asked.done()
    harness.outbox.gate.set()
    assert outcomes(await asked) == [CacheOutcome.HIT]
    assert [usage.request_id for usage in harness.outbox.written] == ["req_1", "req_2"]


async def test_a_charge_is_recorded_once_also_when_the_client_leaves_meanwhile() -> None:
    harness = a_harness(replace(ON, charge=Charge.FULL))
    await ask(harness, 1)
    harness.outbox.gate.clear()
    asked = asyncio.create_task(harness.generate(request_id="req_2"))
    while harness.outbox.tries < 2:
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert harness.tasks.is_running((harness.principal.tenant_id, "req_2"))
    harness.outbox.gate.set()
    await harness.tasks.wait_idle()
    usage = harness.outbox.written[-1]
    assert (len(harness.outbox.written), usage.request_id, usage.attempts[0].usage) == (2, "req_2", USAGE)


async def test_a_client_that_leaves_before_its_charge_is_known_pays_nothing() -> None:
    harness = a_harness(replace(ON, charge=Charge.FULL))
    await ask(harness, 1)
    harness.metering.gate, reserving = asyncio.Event(), asyncio.Event()
    harness.metering.on_reserve = reserving.set
    asked = asyncio.create_task(harness.generate(request_id="req_2"))
    await reserving.wait()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await harness.tasks.wait_idle()
    assert (harness.outbox.written[-1].request_id, harness.outbox.written[-1].attempts) == ("req_2", ())


async def test_a_free_answer_waits_for_no_record_and_is_recorded_once() -> None:
    harness = a_harness()
    await ask(harness, 1)
    harness.outbox.gate.clear()
    answers = [await harness.generate(request_id=f"req_{number}") for number in range(2, 5)]
    assert outcomes(*answers) == [CacheOutcome.HIT] * 3
    assert len(harness.outbox.written) == 1
    harness.outbox.gate.set()
    await harness.tasks.wait_idle()
    assert [usage.request_id for usage in harness.outbox.written] == ["req_1", "req_2", "req_3", "req_4"]
