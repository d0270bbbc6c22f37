"""The contract of a usage outbox. Subclasses give `outbox` and `written`, which returns the ids of its events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chassis.ids import new_id
from orchestrator.usage.model import AttemptUsage, RequestUsage
from orchestrator.usage.ports import UsageOutbox
from values.money import NanoUsd, Price
from values.usage import UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource

PRICE = Price("local/smollm2-135m-instruct", "prc_1", NanoUsd(50_000_000), NanoUsd(200_000_000))

Written = Callable[[], Awaitable[list[tuple[str, str]]]]


def some_usage(tenant_id: str = "ten_1", request_id: str = "req_1") -> RequestUsage:
    attempts = (
        AttemptUsage(1, PRICE, UNKNOWN_USAGE, ExposureCause.CLIENT),
        AttemptUsage(2, PRICE, TokenUsage(UsageSource.REPORTED, 12, 0)),
    )
    return RequestUsage(new_id("evt_"), tenant_id, "prj_1", "key_1", request_id, attempts)


class UsageOutboxContract:
    async def test_a_written_event_is_there(self, outbox: UsageOutbox, written: Written) -> None:
        usage = some_usage()

        await outbox.write(usage)

        assert await written() == [("ten_1", usage.event_id)]

    async def test_an_event_written_again_is_there_once(self, outbox: UsageOutbox, written: Written) -> None:
        usage = some_usage()

        await outbox.write(usage)
        await outbox.write(usage)

        assert await written() == [("ten_1", usage.event_id)]

    async def test_concurrent_events_are_all_there_each_under_its_tenant(
        self, outbox: UsageOutbox, written: Written
    ) -> None:
        usages = [some_usage(f"ten_{n % 3}", f"req_{n}") for n in range(600)]

        await asyncio.gather(*(outbox.write(usage) for usage in usages))

        assert sorted(await written()) == sorted((usage.tenant_id, usage.event_id) for usage in usages)

    async def test_a_request_whose_event_waits_is_found_for_its_tenant_only(self, outbox: UsageOutbox) -> None:
        await outbox.write(some_usage("ten_1", "req_1"))
        await outbox.write(some_usage("ten_1", "req_1"))
        await outbox.write(some_usage("ten_2", "req_2"))

        asked = [("ten_1", "req_1"), ("ten_1", "req_2"), ("ten_2", "req_1"), ("ten_2", "req_2"), ("ten_3", "req_3")]
        assert await outbox.find_pending(asked) == {("ten_1", "req_1"), ("ten_2", "req_2")}
        assert await outbox.find_pending([]) == set()

    async def test_the_same_event_twice_at_once_is_there_once(self, outbox: UsageOutbox, written: Written) -> None:
        usage = some_usage()

        await asyncio.gather(outbox.write(usage), outbox.write(usage), outbox.write(some_usage(request_id="req_2")))

        assert len(await written()) == 2
