"""Servicers see the same call whichever way it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from chassis.errors import InvalidRequest
from chassis.grpc import GrpcServer
from chassis.tenancy import Caller, current_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving_at
from google.protobuf.descriptor import MethodDescriptor

from tests.contract.two_ways import WAYS, Outcome, methods

METHODS = methods()
WAIT = "x-wait"


@dataclass(slots=True)
class Seen:
    """What one servicer was given."""

    time_remaining: float | None
    caller: Caller
    metadata: dict[str, str]


@dataclass(slots=True)
class Witness:
    """Answers no method, and remembers what it saw."""

    seen: list[Seen] = field(default_factory=list)

    async def witness(self, _request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.seen.append(Seen(context.time_remaining(), current_caller(), metadata))
        if WAIT in metadata:
            await asyncio.Event().wait()
        raise InvalidRequest("I have seen it", param="all")

    def add_to(self, server: Any, service: str) -> None:
        """As generated code does for a servicer of a service."""
        server.add_registered_method_handlers(
            service, {path.rpartition("/")[2]: self._handler(m) for path, m in METHODS.items() if service in path}
        )

    def _handler(self, method: MethodDescriptor) -> Any:
        shape = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        return shape(self.witness)


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
async def server(witness: Witness) -> AsyncIterator[GrpcServer]:
    services = {path.split("/")[1] for path in METHODS}
    register = [(lambda servicer, server, name=name: servicer.add_to(server, name), witness, name) for name in services]
    async with serving_at("127.0.0.1:0", register) as server:
        yield server


@pytest.mark.parametrize("seconds", [None, 7.0])
async def test_every_method_has_the_same_caller_and_time_both_ways(
    server: GrpcServer, witness: Witness, seconds: float | None
) -> None:
    caller = a_caller(a_principal("ten_x", roles={"admin"}))
    metadata = [("argosy-principal", caller.token), ("argosy-request-id", caller.request_id), ("x-told", "this")]

    for path in METHODS:
        outcomes = [await way(f"127.0.0.1:{server.port}", path, [b""], metadata, seconds) for way in WAYS.values()]

        ordinary, exchanged = witness.seen[-2:]
        assert outcomes[0] == outcomes[1], path
        assert (outcomes[0].code, outcomes[0].message) == ("INVALID_ARGUMENT", "I have seen it")
        assert ordinary.caller == exchanged.caller == caller
        assert dict(metadata).items() <= ordinary.metadata.items()
        assert dict(metadata).items() <= exchanged.metadata.items()
        # gRPC rounds what is left up to a step that it can write in few digits.
        left = seconds if seconds is None else pytest.approx(seconds, abs=1)
        assert (ordinary.time_remaining, exchanged.time_remaining) == (left, left)
    assert len(witness.seen) == 2 * len(METHODS)


@pytest.mark.parametrize("way", WAYS)
async def test_a_method_that_nobody_knows_is_told_so(server: GrpcServer, way: str) -> None:
    path = "/argosy.metering.v1.MeteringService/Steal"

    outcome = await WAYS[way](f"127.0.0.1:{server.port}", path, [b""], [], 5)

    assert (outcome.code, outcome.message, outcome.payloads) == ("UNIMPLEMENTED", "Method not found!", ())


async def test_a_method_that_takes_too_long_ends_when_its_time_is_up_both_ways(
    server: GrpcServer, witness: Witness
) -> None:
    metadata = [("argosy-principal", a_caller().token), (WAIT, "for ever")]
    began = time.monotonic()

    outcomes = await asyncio.gather(
        *(way(f"127.0.0.1:{server.port}", path, [b""], metadata, 0.5) for path in METHODS for way in WAYS.values())
    )

    assert 0.5 <= time.monotonic() - began < 5
    assert set(outcomes) == {Outcome((), "DEADLINE_EXCEEDED", "Deadline Exceeded", b"", ())}
    assert len(witness.seen) == 2 * len(METHODS)
