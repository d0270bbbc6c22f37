"""Replicas behind one name share its calls, also those that are added later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import (
    RetrievalServiceServicer,
    RetrievalServiceStub,
    add_RetrievalServiceServicer_to_server,
)
from chassis.grpc import Channel, Registration
from chassis.tenancy import as_caller
from chassis.testing import a_caller, free_port
from chassis.testing.grpc import serving_at
from rpc import replicas

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
CALLS, IN_FLIGHT = 600, 12


class CountingServicer(RetrievalServiceServicer):
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        """Respond in the next iteration of the loop, so that calls are in flight together."""
        self.calls += 1
        await asyncio.sleep(0)
        return pb.ListFilesResponse()

    def registration(self) -> Registration:
        return add_RetrievalServiceServicer_to_server, self, "argosy.retrieval.v1.RetrievalService"


async def shares(stub: Any, servers: Sequence[CountingServicer]) -> list[int]:
    """Make concurrent calls, and return the number of calls of each server."""
    before = [server.calls for server in servers]

    async def client() -> None:
        for _ in range(CALLS // IN_FLIGHT):
            await stub.ListFiles(pb.ListFilesRequest())

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    return [server.calls - then for server, then in zip(servers, before, strict=True)]


def even(counts: Sequence[int]) -> bool:
    """Whether each has its share, within 20 %."""
    share = sum(counts) / len(counts)
    return all(abs(count - share) <= 0.2 * share for count in counts)


async def test_two_replicas_share_the_calls_and_a_third_gets_its_share_once_it_is_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert replicas.RESOLVE_INTERVAL_SECONDS <= 15  # with the time to connect, a third one has its share within 30 s
    monkeypatch.setattr(replicas, "RESOLVE_INTERVAL_SECONDS", 0.05)
    port, known = free_port(), list(HOSTS[:2])
    servers = [CountingServicer() for _ in HOSTS]  # type: ignore[abstract]

    async def resolve(target: str) -> list[str]:
        return [target.replace("retrievers", host) for host in known]

    async with AsyncExitStack() as stack:
        for host, server in zip(HOSTS[:2], servers, strict=False):
            await stack.enter_async_context(serving_at(f"{host}:{port}", [server.registration()]))
        channel = await stack.enter_async_context(Channel(f"retrievers:{port}", "retrieval", resolver=resolve))
        stub = RetrievalServiceStub(channel)
        stack.enter_context(as_caller(a_caller()))
        async with asyncio.timeout(30):
            while not even((await shares(stub, servers))[:2]):
                await asyncio.sleep(0.01)
        two = await shares(stub, servers)

        await stack.enter_async_context(serving_at(f"{HOSTS[2]}:{port}", [servers[2].registration()]))
        known.append(HOSTS[2])
        async with asyncio.timeout(30):
            while not even(await shares(stub, servers)):
                await asyncio.sleep(0.01)
        three = await shares(stub, servers)

        known.remove(HOSTS[0])
        async with asyncio.timeout(30):
            while (await shares(stub, servers))[0]:
                await asyncio.sleep(0.01)

    assert (even(two[:2]), two[2]) == (True, 0), two
    assert even(three), three
