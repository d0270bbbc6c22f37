"""What idempotency keys have to do. Subclasses give the fixture `keys`, which can pass time."""

import asyncio
from datetime import timedelta
from typing import Any

from orchestrator.idempotency.model import IdempotencyKey, Resource

KEY = IdempotencyKey("ten_1", "key_1", Resource.JOB, "abc")


class IdempotencyContract:
    async def test_a_key_stands_for_the_first_id(self, keys: Any) -> None:
        assert await keys.resolve(KEY, "job_1") == "job_1"
        assert await keys.resolve(KEY, "job_2") == "job_1"

    async def test_of_two_at_once_one_id_is_chosen(self, keys: Any) -> None:
        found = await asyncio.gather(*(keys.resolve(KEY, f"job_{n}") for n in range(5)))

        assert len(set(found)) == 1

    async def test_tenants_api_keys_and_resources_have_keys_of_their_own(self, keys: Any) -> None:
        others = [
            KEY,
            KEY._replace(tenant_id="ten_2"),
            KEY._replace(key_id="key_2"),
            KEY._replace(resource=Resource.BATCH),
            KEY._replace(key="abd"),
        ]

        assert [await keys.resolve(key, f"id_{n}") for n, key in enumerate(others)] == [f"id_{n}" for n in range(5)]

    async def test_after_a_day_a_key_is_new(self, keys: Any) -> None:
        await keys.resolve(KEY, "job_1")
        await keys.pass_time(timedelta(hours=23))
        within = await keys.resolve(KEY, "job_2")
        await keys.pass_time(timedelta(hours=2))

        assert (within, await keys.resolve(KEY, "job_3")) == ("job_1", "job_3")
