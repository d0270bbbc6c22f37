"""What a usage log promises. Subclasses give `log` and `written`, which returns the ids of the events in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chassis.ids import new_id
from orchestrator.domain.ports import UsageLog
from orchestrator.domain.usage import UNKNOWN, AttemptUsage, RequestUsage, TokenUsage, UsageSource

Written = Callable[[], Awaitable[list[tuple[str, str]]]]


def some_usage(tenant_id: str = "ten_1", request_id: str = "req_1") -> RequestUsage:
    attempts = (
        AttemptUsage(1, "local/smollm2-135m-instruct", "prc_1", UNKNOWN),
        AttemptUsage(2, "local/smollm2-135m-instruct", "prc_1", TokenUsage(UsageSource.REPORTED, 12, 0)),
    )
    return RequestUsage(new_id("evt_"), tenant_id, "prj_1", "key_1", request_id, attempts)


class UsageLogContract:
    async def test_what_was_recorded_is_there(self, log: UsageLog, written: Written) -> None:
        usage = some_usage()

        await log.record(usage)

        assert await written() == [("ten_1", usage.event_id)]

    async def test_an_event_recorded_again_is_there_once(self, log: UsageLog, written: Written) -> None:
        usage = some_usage()

        await log.record(usage)
        await log.record(usage)

        assert await written() == [("ten_1", usage.event_id)]

    async def test_many_at_once_are_all_there_each_under_its_tenant(self, log: UsageLog, written: Written) -> None:
        usages = [some_usage(f"ten_{n % 3}", f"req_{n}") for n in range(600)]

        await asyncio.gather(*(log.record(usage) for usage in usages))

        assert sorted(await written()) == sorted((usage.tenant_id, usage.event_id) for usage in usages)

    async def test_the_same_event_twice_at_once_is_there_once(self, log: UsageLog, written: Written) -> None:
        usage = some_usage()

        await asyncio.gather(log.record(usage), log.record(usage), log.record(some_usage(request_id="req_2")))

        assert len(await written()) == 2
