"""Periodic work: repeated at once while there is more, and after errors."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from chassis.aio import periodic
from chassis.errors import Unavailable
from chassis.testing.logs import captured_lines


async def test_runs_again_at_once_while_there_is_more_and_continues_after_an_error() -> None:
    stop = asyncio.Event()
    calls: list[int] = []

    async def run_once() -> bool:
        calls.append(len(calls))
        if len(calls) == 2:
            raise Unavailable("the database does not answer")
        if len(calls) == 4:
            stop.set()
        return len(calls) == 1

    async with asyncio.timeout(30):
        await periodic(timedelta(milliseconds=1), run_once, "test")(stop)

    assert calls == [0, 1, 2, 3]


async def test_an_answer_of_a_store_that_is_no_expected_error_does_not_end_the_service() -> None:
    stop = asyncio.Event()
    calls: list[int] = []

    async def run_once() -> None:
        calls.append(len(calls))
        if len(calls) == 5:
            stop.set()
        raise RuntimeError("permission denied for table reservations")

    with captured_lines() as lines:
        async with asyncio.timeout(30):
            await periodic(timedelta(milliseconds=1), run_once, "sweeper")(stop)

    assert len(calls) == 5
    (line,) = lines
    assert (line["event"], line["task"]) == ("periodic_failed", "sweeper")
    assert "permission denied for table reservations" in line["exception"]
