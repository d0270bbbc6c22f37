"""Every method gives the same result by grpc.aio and by the exchange: success, error, unauthenticated, too late."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import pytest
from chassis.clock import SystemClock
from chassis.errors import ArgosyError, DeadlineExceeded
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from chassis.testing.grpc_aio import GrpcAioChannel
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

import tests.e2e.configuration_cases
import tests.e2e.flag_cases
import tests.e2e.job_cases
import tests.e2e.webhook_cases  # noqa: F401 - they register cases
from tests.contract.transports import TRANSPORTS, Outcome
from tests.e2e.call_context import METHODS, CallContext, SearchableTenant, target_of
from tests.e2e.job_cases import become
from tests.e2e.method_cases import CASES, MODEL, UPSTREAM_MODEL, chat
from tests.fleet.client import Fleet
from tests.fleet.environment import RERANKER

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120), pytest.mark.xdist_group("simulator")]

every_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: ".".join(path.split(".")[-1].split("/")))
RANDOM_ID = re.compile(
    r"\b(ten|prj|key|req|evt|txn|prc|vs|vsfb|vsm|whe|whd|job|batch|crd)_[0-9a-f]{32}|whsec_[A-Za-z0-9+/=]+|\b(file)-[0-9a-f]{32}"
)
RANDOM_IN_BODY = re.compile(rb'"id": ?"[^"]*"|"created": ?\d+|"timestamp":"[^"]*"|"endpoint_id":"[^"]*"')
IGNORED = {"queues", "event_id", "flags", "version", "has_more", "unused_vectors_deleted", "complete", "objects"}
"""Of all other tests, or of a time."""
TIMEOUT_SECONDS = 20.0
NEEDS_A_CLUSTER = "/argosy.orchestration.v1.PoolService/"
"""Its methods say on one machine that it has none; tests/cluster has them succeed."""


@pytest.fixture(scope="module")
def searchable(fleet: Fleet) -> SearchableTenant:
    async def build() -> SearchableTenant:
        await fleet.add_model(MODEL, upstream_model=UPSTREAM_MODEL)
        await fleet.add_reranker(RERANKER)
        return await SearchableTenant.build(fleet)

    return asyncio.run(build())


def test_every_method_has_a_case() -> None:
    assert CASES.keys() == METHODS.keys()


def comparable(message: Message) -> dict[str, Any]:
    """A message without random or time-dependent values: ids, times, durations."""
    found: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name in IGNORED:
            continue
        many = list(value) if descriptor.is_repeated else [value]
        found[descriptor.name] = [_comparable(descriptor, one) for one in many]
    return found


def _comparable(descriptor: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        kind = value.DESCRIPTOR.name
        return kind if kind in {"Timestamp", "Duration"} else comparable(value)
    if isinstance(value, bytes):
        return RANDOM_IN_BODY.sub(b"", value)
    return RANDOM_ID.sub("<id>", value) if isinstance(value, str) else value


def responses_of(method: MethodDescriptor, payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """The responses of a call, with consecutive chunks joined."""
    kind = message_factory.GetMessageClass(method.output_type)
    joined: list[dict[str, Any]] = []
    for response in (comparable(kind.FromString(payload)) for payload in payloads):
        if joined and response.keys() == joined[-1].keys() == {"chunk"}:
            joined[-1]["chunk"][0]["payloads"] += response["chunk"][0]["payloads"]
        elif joined and response.keys() == joined[-1].keys() == {"data"}:
            joined[-1]["data"][0] += response["data"][0]
        else:
            joined.append(response)
    return joined


async def by_both(
    context: CallContext, path: str, requests: Sequence[bytes], timeout_seconds: float | None = TIMEOUT_SECONDS
) -> list[Outcome]:
    """Make the same call by both transports."""
    target = target_of(context.fleet, path)
    return [
        await transport(target, path, requests, context.metadata, timeout_seconds) for transport in TRANSPORTS.values()
    ]


@every_method
async def test_a_valid_request_has_the_same_responses(fleet: Fleet, searchable: SearchableTenant, path: str) -> None:
    answers = []
    for transport in TRANSPORTS.values():
        context = CallContext.new(fleet, searchable)
        wire = [request.SerializeToString() for request in await CASES[path](context)]
        outcome = await transport(target_of(fleet, path), path, wire, context.metadata, TIMEOUT_SECONDS)
        answers.append((responses_of(METHODS[path], outcome.payloads), *astuple(outcome)[1:]))

    if path.startswith(NEEDS_A_CLUSTER):
        assert b"POOLS_NOT_SUPPORTED" in answers[0][3]
    else:
        assert answers[0][1:] == ("OK", "", b"", ())
        assert answers[0][0]
    assert answers[0] == answers[1]


@every_method
async def test_an_empty_request_has_the_same_outcome(fleet: Fleet, searchable: SearchableTenant, path: str) -> None:
    by_grpc, by_exchange = await by_both(CallContext.new(fleet, searchable), path, [b""])

    assert responses_of(METHODS[path], by_grpc.payloads) == responses_of(METHODS[path], by_exchange.payloads)
    assert astuple(by_grpc)[1:] == astuple(by_exchange)[1:]
    if by_grpc.code != "OK":
        assert Status.FromString(by_grpc.details).details[0].type_url.endswith("google.rpc.ErrorInfo")


def context_with_role(fleet: Fleet, searchable: SearchableTenant, path: str) -> CallContext:
    """A context whose caller may send the stream: a method checks the role before it reads any of it."""
    context = CallContext.new(fleet, searchable)
    if path.endswith("/CompleteJobInPieces"):
        become(context, "service")
    return context


@pytest.mark.parametrize("path", [path for path, method in METHODS.items() if method.client_streaming])
async def test_a_stream_without_requests_has_the_same_error(
    fleet: Fleet, searchable: SearchableTenant, path: str
) -> None:
    by_grpc, by_exchange = await by_both(context_with_role(fleet, searchable, path), path, [])

    assert by_grpc == by_exchange
    assert (by_grpc.code, bool(by_grpc.details)) == ("INVALID_ARGUMENT", True)


@every_method
async def test_bytes_that_are_no_message_have_the_same_error(
    fleet: Fleet, searchable: SearchableTenant, path: str
) -> None:
    by_grpc, by_exchange = await by_both(context_with_role(fleet, searchable, path), path, [b"\xff\xff\xff\xff"])

    assert by_grpc == by_exchange
    assert by_grpc.code == "INVALID_ARGUMENT"
    assert by_grpc.details


@every_method
async def test_unauthenticated_calls_have_the_same_error(fleet: Fleet, path: str) -> None:
    forged = PrincipalSigner("x" * 40, "gateway", SystemClock()).sign(Principal(tenant_id="ten_victim"))

    for metadata in ([], [("argosy-principal", "invalid")], [("argosy-principal", forged)]):
        by_grpc, by_exchange = [
            await transport(target_of(fleet, path), path, [b""], metadata, TIMEOUT_SECONDS)
            for transport in TRANSPORTS.values()
        ]

        assert by_grpc == by_exchange
        assert (by_grpc.code, by_grpc.payloads) == ("UNAUTHENTICATED", ())
        assert b"PRINCIPAL_INVALID" in by_grpc.details


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_ends_at_its_deadline(fleet: Fleet, searchable: SearchableTenant, transport: str) -> None:
    await fleet.add_model("sim-transports-late", upstream_model="timeout")
    context, path = CallContext.new(fleet, searchable), next(path for path in METHODS if path.endswith("/Generate"))
    (request,) = await CASES[path](context)
    request.model, request.body = "sim-transports-late", chat("sim-transports-late")  # type: ignore[attr-defined]
    started = time.monotonic()

    outcome = await TRANSPORTS[transport](
        target_of(fleet, path), path, [request.SerializeToString()], context.metadata, 1.0
    )

    assert 0.9 < time.monotonic() - started < 14  # the next limit is 15 s, for the first byte
    assert outcome.code == "DEADLINE_EXCEEDED"


Result = tuple[list[dict[str, Any]], tuple[object, ...] | None]


async def result_of(
    carrier: type[Channel | GrpcAioChannel],
    context: CallContext,
    path: str,
    requests: Sequence[Message],
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Result:
    """The result for code that calls a peer: responses, or an exception."""
    method = METHODS[path]
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    caller = Caller(context.principal, context.metadata[0][1], new_id("req_"))
    kind = message_factory.GetMessageClass(method.output_type)
    payloads: list[bytes] = []
    with as_caller(caller):
        async with carrier(target_of(context.fleet, path), "peer") as channel:
            await channel.channel_ready()
            stub = getattr(channel, shape)(path, type(requests[0]).SerializeToString, kind.FromString)
            call = stub(iter(requests) if method.client_streaming else requests[0], timeout=timeout_seconds)
            try:
                if method.server_streaming:
                    payloads += [response.SerializeToString() async for response in call]
                else:
                    payloads.append((await call).SerializeToString())
            except ArgosyError as error:
                result = (
                    type(error),
                    error.kind,
                    error.reason,
                    RANDOM_ID.sub("<id>", error.message),
                    error.param,
                    error.retry_after,
                )
                return responses_of(method, payloads), result
    return responses_of(method, payloads), None


@every_method
async def test_both_channels_give_a_caller_the_same_result(
    fleet: Fleet, searchable: SearchableTenant, path: str
) -> None:
    good: list[Result] = []
    bad: list[Result] = []
    for carrier in (GrpcAioChannel, Channel):
        context = CallContext.new(fleet, searchable)
        good.append(await result_of(carrier, context, path, requests := await CASES[path](context)))
        bad.append(await result_of(carrier, CallContext.new(fleet, searchable), path, [type(requests[0])()]))

    assert good[0] == good[1]
    assert (good[0][1] is None) is not path.startswith(NEEDS_A_CLUSTER)
    assert bad[0] == bad[1]


@every_method
async def test_a_call_after_its_deadline_has_the_same_error(
    fleet: Fleet, searchable: SearchableTenant, path: str
) -> None:
    requests = await CASES[path](CallContext.new(fleet, searchable))

    by_grpc, by_exchange = [
        await result_of(carrier, CallContext.new(fleet, searchable), path, requests, -1)
        for carrier in (GrpcAioChannel, Channel)
    ]

    assert by_grpc == by_exchange
    assert by_grpc[1] is not None
    assert by_grpc[1][0] is DeadlineExceeded
