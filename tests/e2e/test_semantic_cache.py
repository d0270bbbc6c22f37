"""The semantic cache on the whole fleet, with the embedding model that is shipped."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet, created

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

PRICE = {"price_key": "simulator/instant", "input_per_million_nano_usd": 1_000, "output_per_million_nano_usd": 1_000}
PROMPT, PARAPHRASE = "How do I reset my password?", "How can I reset my password?"
NEAR_MISS = "How do I not reset my password?"


async def ask(tenant: httpx.AsyncClient, model: str, prompt: str) -> tuple[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8}
    answer = await tenant.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers.get("argosy-cache", ""), answer.json()


async def test_a_prompt_of_the_same_meaning_gets_the_answer_and_no_other_does(fleet: Fleet) -> None:
    model = fleet.unique("sim-semantic")
    route = {
        "reason": "a drill",
        "candidates": [{"upstream": "simulator", "model": "instant"}],
        "cache": {"exact": True, "semantic": True},
    }
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        created(await admin.post("/admin/v1/prices", json=PRICE))
        created(await admin.put(f"/admin/v1/routes/{model}", json=route))
    async with fleet.new_tenant("1") as tenant, fleet.new_tenant("1") as other:
        async with asyncio.timeout(60):
            while (await tenant.get(f"/v1/models/{model}")).status_code != 200:
                await asyncio.sleep(0.05)
        _, first = await ask(tenant, model, PROMPT)

        # The prompt is kept in the background, after its answer.
        paraphrases = [f"{PARAPHRASE}{'!' * number}" for number in range(100)]
        async with asyncio.timeout(120):
            for asked in paraphrases:
                outcome, second = await ask(tenant, model, asked)
                if outcome == "semantic":
                    break
                await asyncio.sleep(0.2)

        assert outcome == "semantic"
        assert second["choices"] == first["choices"]
        assert (await ask(tenant, model, PROMPT))[0] == "hit"
        assert (await ask(tenant, model, NEAR_MISS))[0] == "miss"
        assert (await ask(other, model, PARAPHRASE))[0] == "miss"
