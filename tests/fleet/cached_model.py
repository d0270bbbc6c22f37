"""A model of the test fleet whose answers are cached, with a provider of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.fleet.client import Fleet, created
from tests.simulators.upstream import UpstreamSimulator

INPUT_PER_MILLION, OUTPUT_PER_MILLION = 150_000_007, 600_000_011
"""Odd, so that rounding shows."""
REASON = {"reason": "a drill"}


@dataclass
class Cached:
    """A model whose answers are cached, and the provider behind it."""

    fleet: Fleet
    provider: UpstreamSimulator
    model: str

    async def ask(self, tenant: httpx.AsyncClient, prompt: str, **fields: Any) -> httpx.Response:
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64, **fields}
        answer = await tenant.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer


@asynccontextmanager
async def a_cached_model(fleet: Fleet, upstream_model: str = "instant", **cache: object) -> AsyncIterator[Cached]:
    """Declare an upstream, its price and a route by the API; the block begins when every replica lists it."""
    upstream, model = fleet.unique("cached"), fleet.unique("sim-cached")
    prices = {"input_per_million_nano_usd": INPUT_PER_MILLION, "output_per_million_nano_usd": OUTPUT_PER_MILLION}
    candidate = {"upstream": upstream, "model": upstream_model}
    async with (
        UpstreamSimulator() as provider,
        httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin,
    ):
        declared = {**REASON, "kind": "openai", "base_url": f"{provider.url}/v1"}
        created(await admin.put(f"/admin/v1/upstreams/{upstream}", json=declared))
        created(
            await admin.post(
                f"/admin/v1/upstreams/{upstream}/credentials", json={**REASON, "secret": "sk-of-the-cache"}
            )
        )
        created(await admin.post("/admin/v1/prices", json={"price_key": f"{upstream}/{upstream_model}", **prices}))
        route: dict[str, object] = {**REASON, "candidates": [candidate], "cache": {"exact": True} | cache}
        created(await admin.put(f"/admin/v1/routes/{model}", json=route))
        await fleet.wait_until_listed(model)
        yield Cached(fleet, provider, model)
