"""Caches of the real parts: two tenants that ask the same, and retrieval that hangs.

The provider answers every call with a text that it gives only once, so that a text says for whom it was made.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from tests.chaos.test_degraded import assert_refused, hanging
from tests.fleet.cached_model import Cached, a_cached_model
from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(3600), pytest.mark.xdist_group("simulator")]

AT_ONCE = 16
PROMPT, PARAPHRASE = "How do I reset the password of user {}?", "How can I reset the password of user {}?"


@dataclass
class TwoTenants:
    """What two tenants got: for each of them the outcome and the text of every answer."""

    cached: Cached
    tenants: tuple[httpx.AsyncClient, httpx.AsyncClient]
    got: tuple[list[tuple[str, str]], list[tuple[str, str]]] = field(default_factory=lambda: ([], []))

    async def ask_all(self, prompt: str, prompts: int) -> Counter[str]:
        """Both ask all prompts at the same time, each in its own order; returns the outcomes."""
        before, started = len(self.got[0]), time.monotonic()
        numbers = [iter(range(prompts)), iter(range(prompts - 1, -1, -1))]
        await asyncio.gather(*(self._client(which, prompt, numbers[which]) for which in (0, 1) for _ in range(AT_ONCE)))
        outcomes = Counter(outcome for got in self.got for outcome, _ in got[before:])
        print(f"  2 x {prompts} of {prompt!r}: {dict(outcomes)} in {time.monotonic() - started:.0f} s")
        return outcomes

    async def _client(self, which: int, prompt: str, numbers: Iterator[int]) -> None:
        for number in numbers:
            answer = await self.cached.ask(self.tenants[which], prompt.format(number))
            text = answer.json()["choices"][0]["message"]["content"]
            self.got[which].append((answer.headers["argosy-cache"], text))

    def crossed(self) -> Counter[str]:
        """Count by outcome the answers that were made for the other tenant."""
        made = [{text for outcome, text in got if outcome == "miss"} for got in self.got]
        assert not made[0] & made[1]
        return Counter(outcome for which in (0, 1) for outcome, text in self.got[which] if text not in made[which])


async def test_equal_prompts_of_two_tenants_never_cross(fleet: Fleet, *, long: bool) -> None:
    prompts = 10_000 if long else 150
    async with (
        a_cached_model(fleet, "unique", semantic=True, threshold=0.9) as cached,
        fleet.new_tenant() as one,
        fleet.new_tenant() as other,
    ):
        both = TwoTenants(cached, (one, other))
        first = await both.ask_all(PROMPT, prompts)
        again = await both.ask_all(PROMPT, prompts)
        same_meaning = await both.ask_all(PARAPHRASE, prompts)
        crossed = both.crossed()
        print(f"  answers that were made for the other tenant: {crossed.total()}")

        assert crossed == {}
        assert first == {"miss": 2 * prompts}
        assert again["hit"] > 0
        assert same_meaning["semantic"] > 0
        assert cached.provider.received == (first + again + same_meaning)["miss"]


@pytest.mark.degraded(down="retrieval", area="sync", holds="a prompt of the same meaning is a miss, an equal one a hit")
async def test_while_retrieval_hangs_a_prompt_of_the_same_meaning_is_a_miss_and_a_purge_says_what_remains(
    fleet: Fleet,
) -> None:
    async with a_cached_model(fleet, "unique", semantic=True, threshold=0.9) as cached, fleet.new_tenant() as tenant:
        await cached.ask(tenant, PROMPT.format(1))
        async with hanging(fleet, "retrieval"):
            outcomes = [
                (await cached.ask(tenant, prompt.format(1))).headers["argosy-cache"] for prompt in (PARAPHRASE, PROMPT)
            ]
            assert_refused(await tenant.delete("/v1/cache"), "cached_prompts_remain")
            purged = (await cached.ask(tenant, PROMPT.format(1))).headers["argosy-cache"]
        assert (outcomes, purged) == (["miss", "hit"], "miss")
        assert (await tenant.delete("/v1/cache")).status_code == 204
