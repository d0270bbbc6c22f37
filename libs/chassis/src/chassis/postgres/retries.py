"""Repeats transactions that Postgres has ended to let others go on: deadlocks and serialization failures.

A second line of defence. Transactions that lock rows in one order do not deadlock; that of each service is documented.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import asyncpg

from chassis.errors import Unavailable

# The longest pause before each repetition, in seconds. The pause is random, so that those who met do not meet again.
PAUSES = (0.02, 0.1)
_ABORTED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

P = ParamSpec("P")
T = TypeVar("T")


def is_aborted(error: Unavailable) -> bool:
    """Whether Postgres has rolled the transaction back to resolve a conflict: nothing was written, not even in part."""
    return isinstance(error.__cause__, _ABORTED)


def repeat_aborted(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Call the method again, at most twice, where its transaction was aborted. Raises `Unavailable` after that.

    For methods that are one transaction, or several of which each may be repeated. What they do besides, before the
    commit, must be safe to repeat, too.
    """

    @wraps(method)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        for longest in PAUSES:
            try:
                return await method(*args, **kwargs)
            except Unavailable as error:
                if not is_aborted(error):
                    raise
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
        return await method(*args, **kwargs)

    return repeated
