"""Flags on the whole fleet: how soon a switch is off on every replica, with Redis and without it."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from argosy.orchestration.v1 import flags_pb2 as pb
from argosy.orchestration.v1.flags_pb2_grpc import FlagServiceStub
from chassis.clock import SystemClock
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from tests.fleet.client import Fleet
from tests.fleet.control import SECOND_REPLICAS, start
from tests.fleet.redis_use import frozen_redis

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("simulator")]

REPLICAS = ("orchestrator", "orchestrator-2")
ROUNDS = 5
REASON = {"reason": "a drill"}


@asynccontextmanager
async def replicas(fleet: Fleet) -> AsyncIterator[list[Any]]:
    """A stub of each replica, as an administrator."""
    principal = Principal("ten_platform", "prj_flags", "key_flags", roles=frozenset({"platform_admin"}))
    token = PrincipalSigner(fleet.principal_secret, "gateway", SystemClock()).sign(principal)
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(Channel(fleet.grpc_target(name), name)) for name in REPLICAS]
        stack.enter_context(as_caller(Caller(principal, token, new_id("req_"))))
        yield [FlagServiceStub(channel) for channel in channels]


async def seconds_until_killed(fleet: Fleet, stubs: list[Any], key: str) -> float:
    """Kill a flag; return how long it took until all replicas had it. It is restored afterwards."""
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        started = time.monotonic()
        (await admin.post(f"/admin/v1/flags/{key}/kill", json=REASON)).raise_for_status()
        await asyncio.gather(*(until(stub, key, "KILLED") for stub in stubs))
        seconds = time.monotonic() - started
        (await admin.post(f"/admin/v1/flags/{key}/restore", json=REASON)).raise_for_status()
        await asyncio.gather(*(until(stub, key, "DEFAULT") for stub in stubs))
    return seconds


async def until(stub: Any, key: str, reason: str) -> None:
    request = pb.EvaluateFlagsRequest(keys=[key], tenant_id="ten_any")
    async with asyncio.timeout(30):
        while (await stub.EvaluateFlags(request, timeout=30)).evaluations[0].reason != reason:
            await asyncio.sleep(0.01)


@pytest.fixture
async def key(fleet: Fleet) -> AsyncIterator[str]:
    """The switch of a model of this test, which every replica knows."""
    await asyncio.to_thread(start, SECOND_REPLICAS)
    model = fleet.unique("sim-flags")
    await fleet.add_model(model, upstream_model="instant")
    key = f"model.{model}"
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
        (await admin.put(f"/admin/v1/flags/{key}", json=REASON)).raise_for_status()
        async with replicas(fleet) as stubs:
            await asyncio.gather(*(until_known(stub, key) for stub in stubs))
        yield key
        (await admin.delete(f"/admin/v1/flags/{key}", params=REASON)).raise_for_status()


async def until_known(stub: Any, key: str) -> None:
    request = pb.EvaluateFlagsRequest(tenant_id="ten_any")
    async with asyncio.timeout(30):
        while key not in [one.key for one in (await stub.EvaluateFlags(request, timeout=30)).evaluations]:
            await asyncio.sleep(0.05)


async def test_a_killed_switch_is_off_on_every_replica_within_a_second(fleet: Fleet, key: str) -> None:
    async with replicas(fleet) as stubs:
        seconds = [await seconds_until_killed(fleet, stubs, key) for _ in range(ROUNDS)]

    print(f"off on {len(REPLICAS)} replicas after {', '.join(f'{one:.3f}' for one in seconds)} s")
    # The poll alone, every two seconds, would take longer.
    assert statistics.median(seconds) <= 1.0


async def test_without_redis_a_killed_switch_is_off_on_every_replica_within_five_seconds(
    fleet: Fleet, key: str
) -> None:
    async with replicas(fleet) as stubs, frozen_redis(fleet):
        seconds = [await seconds_until_killed(fleet, stubs, key) for _ in range(2)]

    print(f"off on {len(REPLICAS)} replicas without Redis after {', '.join(f'{one:.3f}' for one in seconds)} s")
    assert max(seconds) <= 5.0


async def test_a_model_that_is_off_is_a_typed_error_until_it_is_restored(fleet: Fleet, key: str) -> None:
    model = key.removeprefix("model.")
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    async with replicas(fleet) as stubs, fleet.new_tenant("1") as http:
        async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_admin, timeout=30) as admin:
            (await admin.post(f"/admin/v1/flags/{key}/kill", json=REASON)).raise_for_status()
            await asyncio.gather(*(until(stub, key, "KILLED") for stub in stubs))
            refused = [await http.post("/v1/chat/completions", json=body | {"stream": one}) for one in (False, True)]
            job = await http.post("/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": body})
            (await admin.post(f"/admin/v1/flags/{key}/restore", json=REASON)).raise_for_status()
            await asyncio.gather(*(until(stub, key, "DEFAULT") for stub in stubs))
        answered = await http.post("/v1/chat/completions", json=body)

    for response in (*refused, job):
        assert response.status_code == 403
        error = response.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("permission_error", "feature_disabled", key)
    assert answered.status_code == 200, answered.text
