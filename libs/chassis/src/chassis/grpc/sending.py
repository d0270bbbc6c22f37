"""Requests that come from an iterator, on their way to a call of either kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

from chassis.errors import ArgosyError


async def one_by_one(requests: Any) -> AsyncIterator[Any]:
    """Take requests from an iterator, asynchronous or not."""
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


async def sent(sending: Awaitable[None]) -> bool:
    """Say whether it was; if not, whoever reads the responses is told why."""
    try:
        await sending
    except ArgosyError:
        return False
    return True
