"""The response cache under attack: entries that are changed in Redis, requests that only look equal, lost rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from argosy_dev.fleet.paths import read_pairs
from redis.asyncio import Redis

from tests.fleet.cached_model import INPUT_PER_MILLION, OUTPUT_PER_MILLION, REASON, a_cached_model
from tests.fleet.client import Fleet, created
from tests.fleet.environment import PATHS

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

PROMPT = "How tall is the tower?"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SHAPING: list[dict[str, Any]] = [
    {"seed": 1},
    {"seed": 2},
    {"temperature": 0},
    {"temperature": 1},
    {"top_p": 0.5},
    {"max_tokens": 63},
    {"stop": ["x"]},
    {"logit_bias": {"5": 1}},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "none"},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "text"}},
    {"stream": True},
    {"messages": [{"role": "user", "content": PROMPT, "name": "ann"}]},
    {"messages": [{"role": "system", "content": PROMPT}]},
    {"messages": [{"role": "user", "content": f"{PROMPT} "}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
]
NOT_SHAPING: list[dict[str, Any]] = [{"user": "ann"}, {"metadata": {"a": "b"}}, {"argosy": {"metadata": {"a": "b"}}}]


@asynccontextmanager
async def the_redis() -> AsyncIterator[Redis]:
    async with Redis.from_url(read_pairs(PATHS.env)["ARGOSY_REDIS_URL"]) as redis:
        yield redis


async def bytes_of(redis: Redis, entry: str) -> bytes:
    kept = await redis.get(entry)
    assert isinstance(kept, bytes)
    return kept


async def entry_of(redis: Redis, tenant: str) -> str:
    """Return the key of the only answer that is kept for a tenant. It is written without a wait for it."""
    async with asyncio.timeout(10):
        while True:
            found: list[str] = [
                key.decode() async for key in redis.scan_iter(match=f"argosy:cache:{tenant}:*", count=1000)
            ]
            entries = [key for key in found if not key.endswith(":lock")]
            if entries:
                (entry,) = entries
                return entry
            await asyncio.sleep(0.05)


def as_key(fleet: Fleet, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=fleet.base_url, headers={"authorization": f"Bearer {key}"}, timeout=30)


async def test_requests_that_differ_in_what_shapes_an_answer_never_share_one(fleet: Fleet) -> None:
    async with a_cached_model(fleet) as cached, fleet.new_tenant("1") as tenant:
        first = [await cached.ask(tenant, PROMPT, **fields) for fields in SHAPING]
        again = [await cached.ask(tenant, PROMPT, **fields) for fields in SHAPING]
        calls = cached.provider.received
        plain = await cached.ask(tenant, PROMPT)
        same = [await cached.ask(tenant, PROMPT, **fields) for fields in NOT_SHAPING]

    assert [one.headers["argosy-cache"] for one in first] == ["miss"] * len(SHAPING)
    assert [one.headers["argosy-cache"] for one in again] == ["hit"] * len(SHAPING)
    assert calls == len(SHAPING)
    assert plain.headers["argosy-cache"] == "miss"
    assert [one.headers["argosy-cache"] for one in same] == ["hit"] * len(NOT_SHAPING)


async def test_an_entry_that_is_changed_in_redis_is_a_miss_and_is_made_anew(fleet: Fleet) -> None:
    tenant_id, key = await fleet.create_tenant("1")
    async with a_cached_model(fleet) as cached, as_key(fleet, key) as tenant, the_redis() as redis:
        first = await cached.ask(tenant, PROMPT)
        entry = await entry_of(redis, tenant_id)
        kept = await bytes_of(redis, entry)
        places = sorted({*range(24), *range(24, len(kept), len(kept) // 20)})
        changed = [bytes([*kept[:place], kept[place] ^ 1, *kept[place + 1 :]]) for place in places]
        cut = [kept[:length] for length in (0, 1, 4, 20, 21, 25, len(kept) // 2, len(kept) - 1)]
        attacks = [*changed, *cut, kept + b"\0", kept + kept, b"AC\0\2" + kept[4:], b"{}"]
        for data in attacks:
            await redis.set(entry, data, px=60_000)
            answer = await cached.ask(tenant, PROMPT)
            assert answer.headers["argosy-cache"] == "miss", data[:40]
            assert answer.json()["choices"] == first.json()["choices"]
        assert cached.provider.received == 1 + len(attacks)


async def test_an_entry_that_is_copied_to_another_tenant_or_request_is_a_miss(fleet: Fleet) -> None:
    (one_id, one_key), (other_id, other_key) = [await fleet.create_tenant("1") for _ in range(2)]
    async with (
        a_cached_model(fleet) as cached,
        as_key(fleet, one_key) as one,
        as_key(fleet, other_key) as other,
        the_redis() as redis,
    ):
        await cached.ask(one, PROMPT)
        entry = await entry_of(redis, one_id)
        kept = await bytes_of(redis, entry)
        await redis.set(entry.replace(one_id, other_id), kept, px=60_000)
        crossed = await cached.ask(other, PROMPT)
        await cached.ask(one, PROMPT, seed=7)
        keys = [key async for key in redis.scan_iter(match=f"argosy:cache:{one_id}:*", count=1000)]
        for name in keys:
            if not name.endswith(b":lock"):
                await redis.set(name, kept, px=60_000)
        answers = [await cached.ask(one, PROMPT, seed=7), await cached.ask(one, PROMPT)]

    assert crossed.headers["argosy-cache"] == "miss"
    assert [answer.headers["argosy-cache"] for answer in answers] == ["miss", "hit"]


async def test_a_cached_answer_gives_no_right_back(fleet: Fleet) -> None:
    """A key that is revoked, a model that is switched off and a route that is removed end hits at once."""
    tenant_id, key = await fleet.create_tenant("1")
    async with (
        a_cached_model(fleet) as cached,
        as_key(fleet, key) as tenant,
        httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin,
    ):
        body = {"model": cached.model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64}
        await cached.ask(tenant, PROMPT)
        flag = f"model.{cached.model}"
        created(await admin.put(f"/admin/v1/flags/{flag}", json=REASON))
        created(await admin.post(f"/admin/v1/flags/{flag}/kill", json=REASON))
        off = await until_refused(tenant, body)
        created(await admin.post(f"/admin/v1/flags/{flag}/restore", json=REASON))
        async with asyncio.timeout(10):
            while (on := await tenant.post("/v1/chat/completions", json=body)).status_code != 200:
                await asyncio.sleep(0.1)
        project = created(await admin.post("/admin/v1/projects", json={"tenant_id": tenant_id, "name": "other"}))
        made = {"tenant_id": tenant_id, "project_id": project["id"], "name": "second"}
        second = created(await admin.post("/admin/v1/keys", json=made))
        async with as_key(fleet, second["key"]) as of_project:
            shared = await cached.ask(of_project, PROMPT)
            (await admin.post(f"/admin/v1/keys/{second['id']}/revoke")).raise_for_status()
            revoked = await until_refused(of_project, body)
        (await admin.delete(f"/admin/v1/routes/{cached.model}", params=REASON)).raise_for_status()
        removed = await until_refused(tenant, body)
        assert cached.provider.received == 1

    assert (off.status_code, off.json()["error"]["code"]) == (403, "feature_disabled")
    assert on.headers["argosy-cache"] == "hit"
    assert shared.headers["argosy-cache"] == "hit", "keys and projects of a tenant share its answers"
    assert revoked.status_code == 401
    assert removed.status_code == 404


async def until_refused(tenant: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """Ask until the answer is an error: what was changed is in force on every replica after a second."""
    async with asyncio.timeout(5):
        while (answer := await tenant.post("/v1/chat/completions", json=body)).status_code == 200:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    later = [await tenant.post("/v1/chat/completions", json=body) for _ in range(4)]
    assert [one.status_code for one in later] == [answer.status_code] * 4
    return answer


async def test_a_hit_costs_the_price_of_its_time_also_after_the_price_was_changed(fleet: Fleet) -> None:
    async with (
        a_cached_model(fleet, charge="full") as cached,
        fleet.new_tenant("1") as tenant,
        httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin,
    ):
        tokens = (await cached.ask(tenant, PROMPT)).json()["usage"]
        route = (await admin.get(f"/admin/v1/routes/{cached.model}")).json()
        (candidate,) = route["candidates"]
        dearer = {
            "price_key": f"{candidate['upstream']}/{candidate['model']}",
            "input_per_million_nano_usd": 2 * INPUT_PER_MILLION,
            "output_per_million_nano_usd": 2 * OUTPUT_PER_MILLION,
        }
        created(await admin.post("/admin/v1/prices", json=dearer))
        hit = await cached.ask(tenant, PROMPT)
        statement = await fleet.statement_of(tenant, hit.headers["x-request-id"])

    prompt, completion = tokens["prompt_tokens"], tokens["completion_tokens"]
    now = -(-2 * (prompt * INPUT_PER_MILLION + completion * OUTPUT_PER_MILLION) // 1_000_000)
    assert hit.headers["argosy-cache"] == "hit"
    assert [int(one["cost_nano_usd"]) for one in statement["settlements"]] == [now]


async def test_an_answer_whose_making_began_before_a_purge_is_given_to_no_later_request(fleet: Fleet) -> None:
    async with a_cached_model(fleet, "paced?chunks=20&interval=0.05") as cached, fleet.new_tenant("1") as tenant:
        making = asyncio.create_task(cached.ask(tenant, PROMPT))
        async with asyncio.timeout(10):
            while not cached.provider.received:
                await asyncio.sleep(0.01)
        assert (await tenant.delete("/v1/cache", params={"route": cached.model})).status_code == 204
        made = await making
        later = await cached.ask(tenant, PROMPT)

    assert [made.headers["argosy-cache"], later.headers["argosy-cache"]] == ["miss", "miss"]
    assert cached.provider.received == 2
