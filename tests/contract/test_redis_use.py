"""Redis is frozen while no other test needs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fleet import redis_use
from tests.fleet.redis_use import frozen_redis, running_redis


async def test_redis_is_frozen_only_while_no_test_needs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def frozen(pid: int) -> AsyncIterator[None]:
        events.append(f"frozen {pid}")
        yield
        events.append("thawed")

    monkeypatch.setattr(redis_use, "STATE", tmp_path)
    monkeypatch.setattr(redis_use, "frozen", frozen)
    fleet: Any = SimpleNamespace(pid_of=lambda part: {"redis": 7}[part])

    async def freeze() -> None:
        async with frozen_redis(fleet):
            await asyncio.sleep(0.05)

    async with running_redis(), running_redis():
        freezing = asyncio.create_task(freeze())
        await asyncio.sleep(0.1)
        events.append("not needed any more")
    async with running_redis():
        events.append("needed again")
    await freezing

    assert events.index("not needed any more") == 0
    assert events.index("thawed") - events.index("frozen 7") == 1
