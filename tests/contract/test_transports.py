"""A servicer gets the same call from grpc.aio and from the exchange."""

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

from tests.contract.transports import TRANSPORTS, Outcome, methods

METHODS = methods()
WAIT = "x-wait"


@dataclass(slots=True)
class RecordedCall:
    """What the servicer received."""

    time_remaining: float | None
    caller: Caller
    metadata: dict[str, str]


@dataclass(slots=True)
class RecordingServicer:
    """Fails every method, and records the calls."""

    calls: list[RecordedCall] = field(default_factory=list)

    async def record(self, _request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.calls.append(RecordedCall(context.time_remaining(), current_caller(), metadata))
        if WAIT in metadata:
            await asyncio.Event().wait()
        raise InvalidRequest("recorded", param="all")

    def add_to(self, server: Any, service: str) -> None:
        """Register the methods of a service, as generated code does."""
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
        return shape(self.record)


@pytest.fixture
def servicer() -> RecordingServicer:
    return RecordingServicer()


@pytest.fixture
async def server(servicer: RecordingServicer) -> AsyncIterator[GrpcServer]:
    services = {path.split("/")[1] for path in METHODS}
    register = [
        (lambda servicer, server, name=name: servicer.add_to(server, name), servicer, name) for name in services
    ]
    async with serving_at("127.0.0.1:0", register) as server:
        yield server


@pytest.mark.parametrize("seconds", [None, 70.0])
async def test_every_method_gets_the_same_caller_and_deadline_by_both_transports(
    server: GrpcServer, servicer: RecordingServicer, seconds: float | None
) -> None:
    caller = a_caller(a_principal("ten_x", roles={"admin"}))
    metadata = [("argosy-principal", caller.token), ("argosy-request-id", caller.request_id), ("x-extra", "this")]

    for path in METHODS:
        outcomes = [
            await transport(f"127.0.0.1:{server.port}", path, [b""], metadata, seconds)
            for transport in TRANSPORTS.values()
        ]

        by_grpc, by_exchange = servicer.calls[-2:]
        assert outcomes[0] == outcomes[1], path
        assert (outcomes[0].code, outcomes[0].message) == ("INVALID_ARGUMENT", "recorded")
        assert by_grpc.caller == by_exchange.caller == caller
        assert dict(metadata).items() <= by_grpc.metadata.items()
        assert dict(metadata).items() <= by_exchange.metadata.items()
        # gRPC rounds the timeout up to a value with few digits.
        left = seconds if seconds is None else pytest.approx(seconds, abs=20)
        assert (by_grpc.time_remaining, by_exchange.time_remaining) == (left, left)
    assert len(servicer.calls) == 2 * len(METHODS)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_method_is_unimplemented(server: GrpcServer, transport: str) -> None:
    path = "/argosy.metering.v1.MeteringService/Steal"

    outcome = await TRANSPORTS[transport](f"127.0.0.1:{server.port}", path, [b""], [], 5)

    assert (outcome.code, outcome.message, outcome.payloads) == ("UNIMPLEMENTED", "Method not found!", ())


async def test_a_call_ends_at_its_deadline_by_both_transports(server: GrpcServer, servicer: RecordingServicer) -> None:
    metadata = [("argosy-principal", a_caller().token), (WAIT, "forever")]
    for seconds in (0.5, 2, 8, 32):  # a busy machine needs more of it until every call has reached the server
        servicer.calls.clear()
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(
                transport(f"127.0.0.1:{server.port}", path, [b""], metadata, seconds)
                for path in METHODS
                for transport in TRANSPORTS.values()
            )
        )

        assert time.monotonic() - started >= seconds
        assert set(outcomes) == {Outcome((), "DEADLINE_EXCEEDED", "Deadline Exceeded", b"", ())}
        if len(servicer.calls) == 2 * len(METHODS):
            return
    raise AssertionError(f"{len(servicer.calls)} of {2 * len(METHODS)} calls have reached the server")
