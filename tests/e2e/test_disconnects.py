"""A client that disconnects stops the provider call and is billed; one that does not read does not delay others."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("simulator")]

BODY = {"max_tokens": 2000, "stream": True, "messages": [{"role": "user", "content": "Tell me a long story."}]}
LONG = "paced?chunks=2000&interval=0.02"  # 40 seconds in all


async def counters(fleet: Fleet) -> dict[str, int]:
    """The counters of the simulated provider."""
    async with httpx.AsyncClient(timeout=60) as http:
        counts: dict[str, int] = (await http.get(f"http://127.0.0.1:{fleet.simulator_port}/simulator")).json()
        return counts


async def test_a_disconnect_stops_the_provider_call_and_bills_the_output_so_far(fleet: Fleet) -> None:
    await fleet.add_model("sim-long", upstream_model=LONG)
    before = await counters(fleet)
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as http:
        async with http.stream("POST", "/v1/chat/completions", json={**BODY, "model": "sim-long"}) as answer:
            assert answer.status_code == 200
            request_id = answer.headers["x-request-id"]
            lines = answer.aiter_lines()
            for _ in range(20):
                await anext(lines)

        async with asyncio.timeout(30):
            while (now := await counters(fleet))["aborted"] == before["aborted"] or now["in_flight"] > before[
                "in_flight"
            ]:
                await asyncio.sleep(0.05)

        statement = await fleet.statement_of(http, request_id)
    (settlement,) = statement["settlements"]
    assert settlement["outcome"] == "billed"
    assert settlement["usage"]["source"] == "counted"
    assert 5 <= settlement["usage"]["output_tokens"] < 2000
    assert int(settlement["cost_nano_usd"]) > 0


async def test_a_client_that_does_not_read_does_not_delay_others(fleet: Fleet) -> None:
    await fleet.add_model("sim-flood", upstream_model="instant?chunks=400000")  # some 80 MB
    await fleet.add_model("sim-quick", upstream_model="instant")
    idle: list[Any] = []
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as http:
        memory = fleet.memory_of("gateway"), fleet.memory_of("orchestrator")
        for _ in range(4):
            request = http.build_request("POST", "/v1/chat/completions", json={**BODY, "model": "sim-flood"})
            idle.append(await http.send(request, stream=True))  # and never read
        for number in range(20):
            quick = {
                **BODY,
                "model": "sim-quick",
                "stream": False,
                "messages": [{"role": "user", "content": f"{number}"}],
            }
            assert (await http.post("/v1/chat/completions", json=quick)).status_code == 200
        grown = fleet.memory_of("gateway") - memory[0], fleet.memory_of("orchestrator") - memory[1]
        for answer in idle:
            await answer.aclose()
    assert max(grown) < 64_000_000, "the unread bytes of four clients, over 300 MB, are kept in memory"
